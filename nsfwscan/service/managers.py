"""The system's service managers: systemd, launchd and the Windows task scheduler.

In: a `ServiceSpec`. Out: a running service, or a `ServiceError` with the manager's own message.
Only files that nsfwscan wrote are replaced or removed.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import plistlib
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from nsfwscan.service.launchd_agent import LABEL, agent
from nsfwscan.service.systemd_unit import MARK, UNIT, unit
from nsfwscan.service.windows_task import AUTHOR, TASK, task
from nsfwscan.system import locations
from nsfwscan.system.atomic_file import replace_file
from nsfwscan.system.reading import open_bytes
from nsfwscan.values.errors import ServiceError
from nsfwscan.values.text import readable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nsfwscan.service.spec import ServiceSpec

_PATIENCE_S = 90
"""Stopping waits until the current pictures are finished."""
_START_S = 10.0
"""How long to watch whether a start succeeds. Downloading a model takes longer."""
_LOOK_S = 0.1
_BY_HAND = "start `nsfwscan watch` yourself, for example from your desktop's autostart"


class ServiceState(NamedTuple):
    """What the manager reports about the service."""

    installed: bool
    running: bool


class Manager(Protocol):
    """A kind of service manager."""

    @property
    def name(self) -> str:
        """Return its name for messages."""

    def written(self, spec: ServiceSpec, /) -> tuple[str, str]:
        """Return what `install` writes: where, and the text."""

    def install(self, spec: ServiceSpec, /) -> None:
        """Write the service, or replace an earlier one, so that it starts at each login."""

    def uninstall(self) -> None:
        """Stop the service and remove what `install` wrote."""

    def start(self) -> None:
        """Start or restart it."""

    def stop(self) -> None:
        """Stop it, after the current pictures are finished."""

    def state(self) -> ServiceState:
        """Return whether it is installed and running."""


def manager() -> Manager:
    """Return this system's manager."""
    if sys.platform == "win32":
        return Scheduler()
    if sys.platform == "darwin":
        return Launchd()
    return Systemd()


@dataclass(frozen=True, slots=True)
class Systemd:
    """systemd's user manager."""

    folder: str | None = None
    """Folder of the user's units; None for the default."""
    name: str = "systemd"

    @property
    def _path(self) -> str:
        return os.path.join(self.folder or locations.user_units_folder(), UNIT)

    def written(self, spec: ServiceSpec) -> tuple[str, str]:
        """Return the unit file and its text."""
        return self._path, unit(spec)

    def install(self, spec: ServiceSpec) -> None:
        """Write and enable the unit."""
        before = _content(self._path)
        if before is not None and MARK.encode() not in before:
            raise _not_ours(self._path)
        _replace(self._path, unit(spec).encode())
        try:
            self._systemctl("daemon-reload")
            self._systemctl("enable", UNIT)
        except ServiceError:  # a unit that is not enabled would look installed
            if before is None:
                os.unlink(self._path)
            else:
                _replace(self._path, before)
            raise

    def uninstall(self) -> None:
        """Stop, disable and remove the unit."""
        before = _content(self._path)
        if before is None:
            raise _not_installed()
        if MARK.encode() not in before:
            raise _not_ours(self._path)
        # If the manager does not answer, nothing runs, and the file is removed anyway.
        with contextlib.suppress(ServiceError):
            self._systemctl("disable", "--now", UNIT)
        with contextlib.suppress(FileNotFoundError):  # created by `enable`
            os.unlink(os.path.join(os.path.dirname(self._path), "default.target.wants", UNIT))
        os.unlink(self._path)
        with contextlib.suppress(ServiceError):
            self._systemctl("daemon-reload")

    def start(self) -> None:
        """Start or restart the unit; return when it is ready, or still starting without failure."""
        self._check_installed()
        with contextlib.suppress(ServiceError):  # nothing to reset
            self._systemctl("reset-failed", UNIT)
        self._systemctl("restart", "--no-block", UNIT)
        until = time.monotonic() + _START_S
        while time.monotonic() < until:
            found = self._show("ActiveState", "SubState", "ExecMainStatus", "Job")
            if found["ActiveState"] == "failed" or found["SubState"] == "auto-restart":
                raise ServiceError(
                    f"the watcher stopped at once, with exit code {found['ExecMainStatus']}",
                    hint="`journalctl --user -u nsfwscan -n 20` says why",
                )
            if found["ActiveState"] == "active" and found["Job"] in {"", "0"}:
                return
            time.sleep(_LOOK_S)

    def stop(self) -> None:
        """Stop the unit."""
        self._check_installed()
        self._systemctl("stop", UNIT)

    def state(self) -> ServiceState:
        """Return whether the unit is active."""
        installed = _content(self._path) is not None
        if not installed:
            return ServiceState(installed=False, running=False)
        found = self._show("ActiveState", "SubState")
        # Waiting for a restart after a failure is "activating", too.
        begins = found["ActiveState"] == "activating" and found["SubState"] != "auto-restart"
        return ServiceState(installed, begins or found["ActiveState"] in {"active", "reloading"})

    def _check_installed(self) -> None:
        if _content(self._path) is None:
            raise _not_installed()

    def _show(self, *names: str) -> dict[str, str]:
        """Return properties of the unit; empty where systemd reports none."""
        done = _run(["systemctl", "--user", "show", UNIT, f"--property={','.join(names)}"])
        found = (line.partition("=") for line in done.stdout.splitlines())
        return {**dict.fromkeys(names, ""), **{name: value for name, _, value in found}}

    def _systemctl(self, *arguments: str) -> None:
        done = _run(["systemctl", "--user", *arguments])
        if done.returncode == 0:
            return
        words = _words(done)
        hint = "see `journalctl --user -u nsfwscan` and `nsfwscan service logs`"
        if "bus" in words.lower():
            hint = (
                "log in as this user rather than with su or sudo, or run `loginctl enable-linger` "
                f"to let services run without a login. Or {_BY_HAND}"
            )
        raise ServiceError(f"systemctl {' '.join(arguments)} failed: {words}", hint=hint)


@dataclass(frozen=True, slots=True)
class Launchd:
    """launchd, for the logged-in user."""

    folder: str = os.path.join("~", "Library", "LaunchAgents")
    name: str = "launchd"

    @property
    def _path(self) -> str:
        return os.path.join(os.path.expanduser(self.folder), f"{LABEL}.plist")

    @property
    def _domain(self) -> str:
        return f"gui/{os.getuid()}" if sys.platform != "win32" else ""

    def written(self, spec: ServiceSpec) -> tuple[str, str]:
        """Return the property list's path and its text."""
        return self._path, agent(spec).decode()

    def install(self, spec: ServiceSpec) -> None:
        """Write the property list, which launchd reads at the next login, or at `start`."""
        if _content(self._path) is not None:
            self._check_ours()
            with contextlib.suppress(ServiceError):  # an earlier agent may be loaded
                self._launchctl("bootout", f"{self._domain}/{LABEL}")
        _replace(self._path, agent(spec))

    def uninstall(self) -> None:
        """Unload the agent and remove its file."""
        self._check_ours()
        with contextlib.suppress(ServiceError):
            self._launchctl("bootout", f"{self._domain}/{LABEL}")
        os.unlink(self._path)

    def start(self) -> None:
        """Start or restart the agent."""
        self._check_ours()
        if self._print().returncode == 0:
            self._launchctl("kickstart", "-k", f"{self._domain}/{LABEL}")
        else:
            self._launchctl("bootstrap", self._domain, self._path)

    def stop(self) -> None:
        """Ask the agent to stop; launchd does not start it again before the next login."""
        self._check_ours()
        self._launchctl("kill", "SIGTERM", f"{self._domain}/{LABEL}")

    def state(self) -> ServiceState:
        """Return whether the agent is running."""
        if _content(self._path) is None:
            return ServiceState(installed=False, running=False)
        return ServiceState(installed=True, running="state = running" in self._print().stdout)

    def _print(self) -> subprocess.CompletedProcess[str]:
        return _run(["launchctl", "print", f"{self._domain}/{LABEL}"])

    def _check_ours(self) -> None:
        content = _content(self._path)
        if content is None:
            raise _not_installed()
        try:
            label = plistlib.loads(content).get("Label")
        except (plistlib.InvalidFileException, ValueError, AttributeError):
            label = None
        if label != LABEL:
            raise _not_ours(self._path)

    def _launchctl(self, *arguments: str) -> None:
        done = _run(["launchctl", *arguments])
        if done.returncode != 0:
            raise ServiceError(
                f"launchctl {arguments[0]} failed: {_words(done)}",
                hint="see `nsfwscan service logs`",
            )


@dataclass(frozen=True, slots=True)
class Scheduler:
    """The Windows task scheduler."""

    name: str = "the task scheduler"

    @property
    def _user(self) -> str:
        domain = os.environ.get("USERDOMAIN", "")
        name = os.environ.get("USERNAME") or getpass.getuser()
        return f"{domain}\\{name}" if domain else name

    def written(self, spec: ServiceSpec) -> tuple[str, str]:
        """Return the task's name and its definition."""
        return f"the scheduled task {TASK}", task(spec, self._user).decode("utf-16")

    def install(self, spec: ServiceSpec) -> None:
        """Register the task."""
        if self._definition() is not None:
            self._check_ours()
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "task.xml")
            _replace(path, task(spec, self._user))
            self._schtasks("/Create", "/TN", TASK, "/XML", path, "/F")

    def uninstall(self) -> None:
        """End and delete the task."""
        self._check_ours()
        with contextlib.suppress(ServiceError):
            self._schtasks("/End", "/TN", TASK)
        self._schtasks("/Delete", "/TN", TASK, "/F")

    def start(self) -> None:
        """Start or restart the task."""
        self._check_ours()
        with contextlib.suppress(ServiceError):
            self._schtasks("/End", "/TN", TASK)
        self._schtasks("/Run", "/TN", TASK)

    def stop(self) -> None:
        """End the task."""
        self._check_ours()
        self._schtasks("/End", "/TN", TASK)

    def state(self) -> ServiceState:
        """Return whether the task exists; the watcher's lock shows whether it runs."""
        return ServiceState(installed=self._definition() is not None, running=False)

    def _definition(self) -> str | None:
        done = _run(["schtasks", "/Query", "/TN", TASK, "/XML"])
        return done.stdout if done.returncode == 0 else None

    def _check_ours(self) -> None:
        definition = self._definition()
        if definition is None:
            raise _not_installed()
        if AUTHOR not in definition:
            raise _not_ours(f"the task {TASK}")

    def _schtasks(self, *arguments: str) -> None:
        done = _run(["schtasks", *arguments])
        if done.returncode != 0:
            raise ServiceError(
                f"schtasks {arguments[0]} failed: {_words(done)}",
                hint="Task Scheduler shows the task and its last result",
            )


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            list(command),
            capture_output=True,
            text=True,
            errors="replace",  # Windows tools use another code page than Python expects
            timeout=_PATIENCE_S,
            check=False,
        )
    except FileNotFoundError as error:
        raise ServiceError(f"there is no {command[0]} on this system", hint=_BY_HAND) from error
    except subprocess.TimeoutExpired as error:
        raise ServiceError(
            f"{command[0]} does not answer", hint="try again, or check the system's logs"
        ) from error


def _words(done: subprocess.CompletedProcess[str]) -> str:
    lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
    return readable(lines[0]) if lines else f"exit code {done.returncode}"


def _content(path: str) -> bytes | None:
    try:
        with open_bytes(path) as file:
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ServiceError(f"{path} cannot be read: {error.strerror}") from error


def _replace(path: str, content: bytes) -> None:
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        replace_file(path, content, mode=0o644)
    except OSError as error:
        raise ServiceError(
            f"{path} cannot be written: {error.strerror}", hint="check its folder's permissions"
        ) from error


def _not_installed() -> ServiceError:
    return ServiceError("no service is installed", hint="run `nsfwscan service install FOLDER`")


def _not_ours(what: str) -> ServiceError:
    return ServiceError(
        f"{what} was not written by `nsfwscan service install`",
        hint="it is not overwritten; move it away first",
    )
