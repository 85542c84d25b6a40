"""The process that builds a model for `nsfwscan models build`, and its end in every case."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

from nsfwscan.system import installation, interrupts
from nsfwscan.values.errors import ModelError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_PATIENCE = 10.0
"""Seconds in which the builder may delete its files; a run of onnxruntime cannot be broken off."""


def check() -> None:
    """Raise `UsageError` when this installation cannot build models."""
    if getattr(sys, "frozen", False):
        raise UsageError(
            "this bundle cannot build models",
            hint="build it with an installed nsfwscan, then run `nsfwscan models add` here",
        )
    if importlib.util.find_spec("onnx") is None:
        raise UsageError(
            "building a model needs onnx, which is not installed",
            hint=installation.installing_extra("quantize"),
        )


@contextlib.contextmanager
def built(source: str, options: Sequence[str], *, offline: bool, quiet: bool) -> Iterator[str]:
    """Give the folder of a package that was built from `source`; it is deleted in the end.

    `options` are those of `python -m quantize`. Raises `ModelError` when no package came of it.
    """
    # So temporary files are deleted however the program is told to end.
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
    """Run `python -m quantize` and return its exit code. Its temporary files lie in `scratch`.

    When this process is interrupted, the builder ends first. When it is killed, the builder finds
    the end of its standard input, ends and deletes `scratch`.
    """
    environment = {**os.environ, "TMPDIR": scratch}
    if offline:
        environment["HF_HUB_OFFLINE"] = "1"
    builder = None
    try:
        with interrupts.held():  # else it may run, and nobody know it
            # A process of its own: what builds models is no part of what scans.
            builder = subprocess.Popen(
                [sys.executable, "-P", "-m", "quantize", *arguments],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL if quiet else 2,  # a report for people, not data
                start_new_session=True,  # Ctrl-C is for this process, which tells the builder
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
