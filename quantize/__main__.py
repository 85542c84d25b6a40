"""`python -m quantize`: from a checkpoint to a model package."""

from __future__ import annotations

import argparse
import atexit
import os
import shlex
import shutil
import signal
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING

from nsfwscan.system import installation
from nsfwscan.values.errors import NsfwscanError

if TYPE_CHECKING:
    from types import FrameType

    from quantize.build import Built

_EXTRAS = {
    "export": ("optimum", "timm", "torch", "torchvision", "transformers"),
}
"""The modules that each extra installs."""
SCRATCH = "nsfwscan-build-"
"""Prefix of the temporary folder that `nsfwscan models build` creates for this process."""
_PATIENCE_S = 10.0
_MISSING = {module: extra for extra, modules in _EXTRAS.items() for module in modules}


def main(arguments: list[str]) -> int:
    """Build a package and return the exit code: 0, or 2 if it could not be built."""
    options = _parser().parse_args(arguments)
    begun = time.monotonic()
    if options.for_models_build:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        from quantize import build

        checksums = dict(one.partition("=")[::2] for one in options.sha256)
        request = build.BuildRequest(
            name=options.source,
            output=options.output,
            revision=options.revision,
            checksums=checksums,
            pictures=options.pictures,
            held_out=options.held_out,
            labelled=options.labelled,
            wanted_fpr=options.wanted_fpr,
            recipe=options.recipe,
            unsafe_labels=tuple(options.unsafe_label),
            licence=options.licence,
            frontend=options.frontend,
            introspect=options.introspect,
            accept_worse=options.accept_worse,
        )
        built = build.build(request, os.environ, _say, _Progress())
    except NsfwscanError as error:
        _say(f"quantize: {error}")
        if error.hint:
            _say(f"  {error.hint}")
        return 2
    except OSError as error:
        _say(f"quantize: {error}")
        return 2
    except ModuleNotFoundError as error:
        extra = _MISSING.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        _say(f"quantize: {error.name} is not installed")
        _say(f"  {installation.installing_extra(extra)}")
        return 2
    _print_result(built)
    if not options.for_models_build:
        print(f"\n{built.manifest.package} is in {options.output}; install it with")
        print(f"  nsfwscan models add {shlex.quote(options.output)}")
    memory = _peak_memory_mb()
    took = f"{time.monotonic() - begun:.1f} s"
    _say(f"took {took}" + (f", {memory:.0f} MB at the peak" if memory else ""))
    return 0


def _end_with_parent() -> None:
    """End as on SIGTERM if `nsfwscan models build`, which holds the other end, is killed.

    Its temporary folder is then ours to delete.
    """
    while os.read(0, 4096):
        pass
    scratch = os.environ.get("TMPDIR", "")
    if os.path.basename(scratch).startswith(SCRATCH):
        atexit.register(shutil.rmtree, scratch, ignore_errors=True)
    signal.raise_signal(signal.SIGTERM)
    time.sleep(_PATIENCE_S)  # a run of onnxruntime cannot be interrupted
    if os.path.basename(scratch).startswith(SCRATCH):
        shutil.rmtree(scratch, ignore_errors=True)
    os._exit(130)


def _print_result(built: Built) -> None:
    from quantize import package

    rows = package.table(built.outcome)
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    for row in rows:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )
    print("\nlargest differences of the chosen recipe (float, INT8):")
    for pair in built.outcome.chosen.agreement.worst:
        print(f"  {pair.reference:.4f}  {pair.candidate:.4f}  {pair.name}")
    for name, one in built.qualities.items():
        print(
            f"{name}: accuracy {one.accuracy:.4f}, recall {one.recall:.4f}, false alarms "
            f"{one.false_positive_rate:.4f}, AUROC {one.auroc:.4f}, ECE {one.calibration_error:.4f}"
        )
    if built.manifest.notes:
        print(f"note: {built.manifest.notes}")


def _say(text: str) -> None:
    # File names and labels are untrusted, and may have control characters.
    plain = "".join(one if one.isprintable() else "?" for one in text)
    print(plain, file=sys.stderr, flush=True)


class _Progress:
    """Reports the progress of a download now and then."""

    def __init__(self) -> None:
        self._next = 0

    def __call__(self, done: int, total: int | None) -> None:
        if done < self._next and done != total:
            return
        self._next = done + (32 << 20)
        _say(f"  {done >> 20} of {total >> 20 if total else '?'} MB")


def _peak_memory_mb() -> float | None:
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m quantize",
        description="Build an INT8 model package from a Vision Transformer's checkpoint.",
    )
    add = parser.add_argument
    add("source", help="a model of `nsfwscan models list`, a checkpoint folder, or OWNER/REPO")
    add("-o", "--output", required=True, metavar="DIR", help="folder to write the package to")
    add(
        "--pictures",
        default="",
        metavar="DIR",
        help="ordinary pictures to calibrate and verify",
    )
    add(
        "--held-out",
        default="",
        metavar="DIR",
        help="other pictures to verify on; without it, half of --pictures",
    )
    add("--labelled", default="", metavar="DIR", help="DIR/safe and DIR/unsafe, for accuracy")
    add("--wanted-fpr", type=float, metavar="SHARE", help="flag this share of the safe pictures")
    add("--recipe", help="build this recipe, not the fastest that passes")
    add("--accept-worse", action="store_true", help="write a package even if it fails the gate")
    add("--introspect", action="store_true", help="add a float graph with all hidden states")
    add("--frontend", choices=("direct", "optimum"), default="", help="what reads the checkpoint")
    add(
        "--unsafe-label",
        action="append",
        default=[],
        metavar="LABEL",
        help="an unsafe label; repeatable",
    )
    add("--licence", default="", metavar="SPDX", help="licence of a model outside the catalogue")
    add("--revision", default="", metavar="HEX", help="pin OWNER/REPO to this commit")
    add("--for-models-build", action="store_true", help=argparse.SUPPRESS)  # it installs the result
    add("--sha256", action="append", default=[], metavar="NAME=HEX", help="pin a file of it")
    return parser


def _run() -> int:
    """Run the command, and delete temporary files when a signal ends it."""
    numbers = [getattr(signal, name, None) for name in ("SIGINT", "SIGTERM", "SIGHUP")]
    endings = [one for one in numbers if one is not None]  # Windows has no SIGHUP
    told = False

    def end(_number: int, _frame: FrameType | None) -> None:
        nonlocal told
        told = True
        for one in endings:
            signal.signal(one, signal.SIG_IGN)  # do not interrupt the clean-up
        raise KeyboardInterrupt

    for one in endings:
        if signal.getsignal(one) is not signal.SIG_IGN:  # as under nohup
            signal.signal(one, end)
    try:
        return main(sys.argv[1:])
    except KeyboardInterrupt:
        return 130
    except Exception:  # noqa: BLE001 - a bug, for which Python exits with 1: "flagged" elsewhere
        if told:  # until Python 3.12 it becomes a RuntimeError while a class is created
            return 130
        traceback.print_exc()
        return 70


if __name__ == "__main__":
    sys.exit(_run())
