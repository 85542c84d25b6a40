"""Runs the process that builds a model for `nsfwscan models build`, and always ends it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

from nsfwscan.system import interrupts
from nsfwscan.values.errors import ModelError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_PATIENCE = 10.0
"""Seconds for the builder to delete its files; a run of onnxruntime cannot be interrupted."""


def check() -> None:
    """Raise `UsageError` if this installation cannot build models."""
    if getattr(sys, "frozen", False):
        raise UsageError(
            "this bundle cannot build models",
            hint="build it with nsfwscan from pip, then run `nsfwscan models add FOLDER` here",
        )


@contextlib.contextmanager
def built(source: str, options: Sequence[str], *, offline: bool, quiet: bool) -> Iterator[str]:
    """Build a package from `source` and yield its folder, which is deleted afterwards.

    `options` are those of `python -m quantize`. Raises `ModelError` if the build fails.
    """
    # So that temporary files are deleted whichever signal ends the program.
    heard = [name for name in ("SIGTERM", "SIGHUP") if not interrupts.is_ignored(name)]
    with (
        interrupts.answered(interrupts.interrupt, *heard),
        tempfile.TemporaryDirectory(prefix="nsfwscan-build-") as scratch,
    ):
        package = os.path.join(scratch, "package")
        words = ["--for-models-build", "-o", package, *options, "--", source]
        if _run(words, scratch, offline=offline, quiet=quiet):
            raise ModelError(
                f"the model could not be built from {source}",
                hint="the reason is printed above",
            )
        yield package


def _run(arguments: Sequence[str], scratch: str, *, offline: bool, quiet: bool) -> int:
    """Run `python -m quantize` and return its exit code. Its temporary files are in `scratch`.

    If this process is interrupted, the builder ends first. If it is killed, the builder notices
    the end of its standard input, deletes `scratch` and ends.
    """
    environment = {**os.environ, "TMPDIR": scratch}
    if offline:
        environment["HF_HUB_OFFLINE"] = "1"
    builder = None
    try:
        with interrupts.held():  # else an interrupt could leave it running unnoticed
            # A separate process: code that builds models is never loaded by a scan.
            builder = subprocess.Popen(
                [sys.executable, "-P", "-m", "quantize", *arguments],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL if quiet else 2,  # a report for people, not data
                start_new_session=True,  # Ctrl-C goes to this process, which ends the builder
            )
        return builder.wait()
    except BaseException:
        if builder is not None:
            builder.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                builder.wait(_PATIENCE)
        raise
    finally:
        if builder is not None:
            builder.kill()
            builder.wait()
            if builder.stdin is not None:
                builder.stdin.close()
