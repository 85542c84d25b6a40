"""The systemd unit: text from a `ServiceSpec`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from nsfwscan.service.spec import DESCRIPTION, MEMORY_HIGH, MEMORY_MAX, STOP_S, WATCHDOG_S

if TYPE_CHECKING:
    from nsfwscan.service.spec import ServiceSpec

UNIT = "nsfwscan.service"
MARK = "# Written by `nsfwscan service install`, which overwrites it without asking."

_TEXT = """\
{mark}
[Unit]
Description={description}

[Service]
Type=notify
NotifyAccess=main
{environment}ExecStart={command}
ExecReload=kill -HUP $MAINPID
# Its output names pictures; the system journal has other readers and is kept for long. The watcher
# has its own log.
StandardOutput=null
Restart=on-failure
RestartSec=30
# The first start may have to fetch a model.
TimeoutStartSec=15min
TimeoutStopSec={stop}
WatchdogSec={watchdog}
# The watcher stops its own decode processes, after it has finished its pictures with them.
KillMode=mixed
Nice=10
IOSchedulingClass=best-effort
IOSchedulingPriority=7
MemoryHigh={memory_high}
MemoryMax={memory_max}
# A decoder that runs out of memory costs its picture, not the watcher.
OOMPolicy=continue
# A core dump would contain pictures.
LimitCORE=0
UMask=0077
# Settings that need a mount namespace (such as ProtectSystem=) are left out: systems that deny
# these to users would not start the service, and pictures may be anywhere.
NoNewPrivileges=yes
LockPersonality=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM

[Install]
WantedBy=default.target
"""


def unit(spec: ServiceSpec) -> str:
    """Return the text of a user unit that runs `spec` while its user is logged in."""
    environment = "".join(
        f"Environment={_quoted(f'{name}={value}', dollar=False)}\n"
        for name, value in spec.environment
    )
    return _TEXT.format(
        mark=MARK,
        description=DESCRIPTION,
        environment=environment,
        command=" ".join(_quoted(word, dollar=True) for word in spec.command),
        stop=STOP_S,
        watchdog=WATCHDOG_S,
        memory_high=MEMORY_HIGH,
        memory_max=MEMORY_MAX,
    )


def _quoted(word: str, *, dollar: bool) -> str:
    """Quote a word so that systemd reads back the same bytes (systemd.syntax(7)).

    `dollar` also escapes `$`, which is special in command lines only.
    """
    quoted = []
    for byte in os.fsencode(word):
        character = chr(byte)
        if character in '"\\':
            quoted.append(f"\\{character}")
        elif character == "%" or (character == "$" and dollar):
            quoted.append(character * 2)
        elif 32 <= byte < 127:
            quoted.append(character)
        else:
            quoted.append(f"\\x{byte:02x}")
    return f'"{"".join(quoted)}"'
