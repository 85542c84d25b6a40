"""The scheduled task for Windows: XML from a `ServiceSpec`."""

from __future__ import annotations

import html
import subprocess
from typing import TYPE_CHECKING

from nsfwscan.service.spec import DESCRIPTION

if TYPE_CHECKING:
    from nsfwscan.service.spec import ServiceSpec

TASK = "nsfwscan"
AUTHOR = "nsfwscan service install"

_TEXT = """\
<?xml version="1.0" encoding="UTF-16"?>
<Task version="1.2" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">
  <RegistrationInfo>
    <Author>{author}</Author>
    <Description>{description}</Description>
  </RegistrationInfo>
  <Triggers>
    <LogonTrigger>
      <Enabled>true</Enabled>
      <UserId>{user}</UserId>
    </LogonTrigger>
  </Triggers>
  <Principals>
    <Principal id="Author">
      <UserId>{user}</UserId>
      <LogonType>InteractiveToken</LogonType>
      <RunLevel>LeastPrivilege</RunLevel>
    </Principal>
  </Principals>
  <Settings>
    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>
    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>
    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>
    <StartWhenAvailable>true</StartWhenAvailable>
    <ExecutionTimeLimit>PT0S</ExecutionTimeLimit>
    <Priority>8</Priority>
    <RestartOnFailure>
      <Interval>PT1M</Interval>
      <Count>3</Count>
    </RestartOnFailure>
  </Settings>
  <Actions Context="Author">
    <Exec>
      <Command>{command}</Command>
      <Arguments>{arguments}</Arguments>
    </Exec>
  </Actions>
</Task>
"""


def task(spec: ServiceSpec, user: str) -> bytes:
    """Return the definition of a task that runs `spec` when `user` logs on, in UTF-16.

    `user` is a domain, a backslash and a name: only administrators may start something at every
    user's logon. A task cannot have environment variables; if there are any, `cmd` sets them, which
    shows a window at logon.
    """
    command, *arguments = spec.command
    line = subprocess.list2cmdline(arguments)
    if spec.environment:
        sets = "".join(f'set "{name}={value}"&& ' for name, value in spec.environment)
        line = f'/d /s /c "{sets}{subprocess.list2cmdline(spec.command)}"'
        command = "cmd.exe"
    text = _TEXT.format(
        author=AUTHOR,
        user=_escaped(user),
        description=DESCRIPTION,
        command=_escaped(command),
        arguments=_escaped(line),
    )
    return text.encode("utf-16")


def _escaped(text: str) -> str:
    """Escape text for XML. `xml.sax.saxutils` would import half of `urllib` for this."""
    return html.escape(text, quote=False)
