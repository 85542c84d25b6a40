"""The launchd agent: a property list from a `ServiceSpec`."""

from __future__ import annotations

import plistlib
from typing import TYPE_CHECKING

from nsfwscan.service.spec import STOP_S

if TYPE_CHECKING:
    from nsfwscan.service.spec import ServiceSpec

LABEL = "io.github.nsfwscan.watch"


def agent(spec: ServiceSpec) -> bytes:
    """Return the property list of an agent that runs `spec` while its user is logged in."""
    return plistlib.dumps(
        {
            "Label": LABEL,
            "ProgramArguments": list(spec.command),
            "EnvironmentVariables": dict(spec.environment),
            "RunAtLoad": True,
            # Restarted after a failure, but not after it was asked to stop.
            "KeepAlive": {"SuccessfulExit": False},
            "ThrottleInterval": 30,
            "ExitTimeOut": STOP_S,
            "ProcessType": "Background",
            "LowPriorityIO": True,
            "Nice": 10,
            "Umask": 0o077,
        }
    )
