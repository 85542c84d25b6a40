"""What the bundle's program runs first: one of its two roles, chosen before anything heavy."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` takes milliseconds to import
import os
import sys

_HELD = "_NSFWSCAN_HELD"  # `bundled.HELD`, and nothing is imported yet


def _let_interrupts_through() -> None:
    """Let Ctrl-C end the program in silence, as long as nobody answers it.

    One that came since the launcher ends it here.
    """
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    if os.environ.pop(_HELD, "") == str(os.getpid()):
        _signal.pthread_sigmask(_signal.SIG_UNBLOCK, [_signal.SIGINT])


def _main() -> None:
    _let_interrupts_through()
    if sys.argv[1:] == ["--version"] and _print_version():
        return
    worker = sys.argv[1:2] == ["--decode-worker"]
    try:
        from nsfwscan.system import bundled

        bundled.prepare(worker=worker)
    except Exception as error:  # noqa: BLE001  a damaged archive of modules fails in any way it likes
        if worker:
            os._exit(78)
        hint = getattr(error, "hint", "")
        sentence = str(error) if hint else f"this copy of nsfwscan is damaged: {error}"
        sys.stderr.write(f"nsfwscan: {sentence}\n  {hint or 'unpack the archive again'}\n")
        sys.exit(7)
    if worker:
        from nsfwscan.media.decode import worker as decode_worker

        decode_worker.main(sys.argv[2:])
    else:
        from nsfwscan.cli import main

        main.run()


def _print_version() -> bool:
    """Print the version as fast as a program can; not where the output cannot be written."""
    import nsfwscan

    try:
        os.write(1, f"nsfwscan {nsfwscan.__version__}\n".encode())
    except OSError:
        return False  # the command line knows how to say so
    return True


_main()
