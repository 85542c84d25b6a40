"""Small files that are replaced atomically: a reader sees the old or the new content."""

from __future__ import annotations

import contextlib
import os
import sys


def replace_file(
    path: str, content: bytes, *, mode: int = 0o600, prefix: str = ".nsfwscan-", sync: bool = False
) -> None:
    """Replace the file at `path` by one with `content` and `mode`; its folder must exist.

    The content is first written to a file beside it, whose name begins with `prefix` and which only
    a kill leaves behind. With `sync` the new content survives a power cut. Raises `OSError`.
    """
    import tempfile  # here, because it would slow down the start of every command

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
