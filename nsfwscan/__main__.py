"""`nsfwscan`, and `python -m nsfwscan`, which is the same."""

# What `signal` is made of; to import that one takes milliseconds in which Python would answer.
import _signal  # type: ignore[import-not-found]


def run() -> None:
    """Run the command line and exit.

    Until that answers interrupts, one ends the program as it ends any other: in silence.
    """
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    from nsfwscan.cli import main

    main.run()


if __name__ == "__main__":
    run()
