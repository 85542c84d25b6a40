"""Exit codes that several commands share. What a scan's codes mean stands in the README."""

from __future__ import annotations

COULD_NOT = 2
"""It could not be done, or the answer to a question was no."""
NOT_RUNNING = 3
"""What `systemctl status` exits with for a service that does not run."""
INTERRUPTED = 130
