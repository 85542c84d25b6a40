"""Small files that are replaced whole: who reads one, sees the old or the new content."""

from __future__ import annotations

import contextlib
import os
import sys


def replace_file(
    path: str, content: bytes, *, mode: int = 0o600, prefix: str = ".nsfwscan-", sync: bool = False
) -> None:
    """Let the file at `path` hold `content` and have `mode`; its folder must exist.

    Until then the content is in a file beside it whose name begins with `prefix`, which only a kill
    leaves behind. With `sync` the new content outlasts a power cut. Raises `OSError`.
    """
    import tempfile  # only who writes needs it, and every command would wait for it

    descriptor, part = tempfile.mkstemp(dir=os.path.dirname(path), prefix=prefix)  # mode 0600
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        if sys.platform != "win32":
            os.chmod(part, mode)
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(part)
        raise
