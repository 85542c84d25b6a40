"""`python -m nsfwscan`, the same as `nsfwscan`."""

import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # Until `run` answers interrupts, one ends the program as it ends any other: in silence.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from nsfwscan.cli.main import run

run()
