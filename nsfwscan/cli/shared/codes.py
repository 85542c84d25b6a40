"""The exit codes. docs/exit-codes.md lists the same ones; 3 of `status` is as systemctl has it."""

from __future__ import annotations

OK = 0
FLAGGED = 1
"""A scan found something at or above the flag threshold. Nothing else ever exits with 1."""
COULD_NOT = 2
"""A wrong option or setting, a path that does not exist, or a part of what was asked for failed;
the message says which."""
NO_VERDICT = 3
"""Some pictures could not be read and have no verdict."""
NOT_RUNNING = 3
"""What `systemctl status` exits with for a service that does not run."""
NO_MODEL = 4
"""No model could be installed or loaded."""
NOT_DONE = 5
"""Nothing was done: a question was answered no, or a limit held an action back."""
INTERNAL = 70
"""An error that nobody foresaw: a bug in nsfwscan. sysexits.h calls it EX_SOFTWARE."""
INTERRUPTED = 130
READER_GONE = 141
"""What a shell reports of a program that SIGPIPE ended: the reader had seen enough."""
