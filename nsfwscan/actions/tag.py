"""Tags that other programs can read, without changing the picture's bytes.

`sidecar` writes `NAME.xmp` beside the picture, which darktable, digiKam and others read. One that
another program wrote or changed is left alone, because rewriting it might lose something.
`xattr` sets extended attributes: the picture's bytes stay the same, its ctime does not.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
import uuid
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from nsfwscan.actions import moves
from nsfwscan.actions.quarantine.recovery import put_back
from nsfwscan.actions.verified_file import Refused
from nsfwscan.system.reading import open_bytes
from nsfwscan.system.writing import write_new
from nsfwscan.values.actions import Outcome

if TYPE_CHECKING:
    from nsfwscan.actions.quarantine.entries import Reason
    from nsfwscan.actions.verified_file import VerifiedFile

_SIDECAR = """\
<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="nsfwscan">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:dc="http://purl.org/dc/elements/1.1/"
    xmlns:nsfwscan="https://github.com/nsfwscan/nsfwscan/ns/1.0/"
    nsfwscan:decision="{decision}"
    nsfwscan:score="{score}"
    nsfwscan:model="{model}"
    nsfwscan:sha256="{sha256}">
   <dc:subject>
    <rdf:Bag>
     <rdf:li>{decision}</rdf:li>
    </rdf:Bag>
   </dc:subject>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>
"""
_OURS = re.compile(re.sub(r"\\\{\w+\\\}", '[^"<]*', re.escape(_SIDECAR)).encode())
"""Matches a sidecar that is, byte for byte, as we write it. Saving it elsewhere changes it."""


def check_sidecar(picture: VerifiedFile) -> None:
    """Raise `Refused` if the sidecar of a picture is another program's; OSError."""
    before = _read(f"{picture.path}.xmp")
    if before is not None and not _OURS.fullmatch(before):
        raise Refused(f"{picture.path}.xmp belongs to another program")


def write_sidecar(picture: VerifiedFile, reason: Reason) -> tuple[Outcome, str | None, str]:
    """Write the sidecar of a picture; return outcome, its path and remarks.

    Raises `Refused`, OSError.
    """
    target = f"{picture.path}.xmp"
    values = {
        "decision": reason.decision,
        "score": f"{reason.score:.4f}",
        "model": escape(reason.model, {'"': "&quot;"}),
        "sha256": picture.sha256.hex(),
    }
    content = _SIDECAR.format(**values).encode()
    before = _read(target)
    if before == content:
        return Outcome.DONE, target, "it was already there"
    if before is not None and not _OURS.fullmatch(before):
        raise Refused(f"{target} belongs to another program")
    folder = os.path.dirname(target)
    part = os.path.join(folder, f".nsfwscan-{uuid.uuid4().hex}")
    write_new(part, content)
    try:
        if before is not None:
            _take_away(target, before, f"{part}-old")
        moves.rename(part, target)
    except FileExistsError:
        raise Refused(f"another program has just written {target}") from None
    finally:
        if os.path.lexists(part):
            os.unlink(part)
    return Outcome.DONE, target, ""


def remove_sidecar(path: str) -> str:
    """Remove our sidecar of a picture that was moved away; return a remark about anyone else's.

    Never raises: the picture has been moved in any case.
    """
    target = f"{path}.xmp"
    try:
        before = _read(target)
        if before is None:
            return ""
        if _OURS.fullmatch(before):
            folder = os.path.dirname(target)
            _take_away(target, before, os.path.join(folder, f".nsfwscan-{uuid.uuid4().hex}"))
            return ""
    except OSError:
        pass
    return f"left in place: {target}, which belongs to another program"


def has_marks(path: str) -> bool:
    """Return True if `remove_marks` may find something to remove."""
    if os.path.lexists(f"{path}.xmp"):
        return True
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            return any(name.startswith("user.nsfwscan.") for name in os.listxattr(path))
    return False


def remove_marks(path: str) -> str:
    """Remove our sidecar and attributes of a picture that a person allowed; return a problem."""
    remove_sidecar(path)
    with contextlib.suppress(OSError):
        if _OURS.fullmatch(_read(f"{path}.xmp") or b""):
            return f"{path}.xmp cannot be removed, so it still has the model's verdict"
    if sys.platform == "linux":
        for name in ("decision", "score", "model"):
            with contextlib.suppress(OSError):  # no such attribute, or a read-only picture
                os.removexattr(path, f"user.nsfwscan.{name}")
    return ""


def _take_away(target: str, content: bytes, aside: str) -> None:
    """Remove our old sidecar; a file that took its name at the same moment is put back."""
    moves.rename(target, aside)
    if _read(aside) != content:
        put_back(aside, target)
        raise FileExistsError
    os.unlink(aside)


def _read(path: str) -> bytes | None:
    """Return a file's content, or None if it does not exist."""
    try:
        file = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | _BINARY)
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ENAMETOOLONG}:  # a long name has no room for `.xmp`
            return None
        raise
    with open_bytes(file) as stream:
        return stream.read(1 << 20)


_BINARY = getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)


def set_attributes(picture: VerifiedFile, reason: Reason) -> tuple[Outcome, str | None, str]:
    """Set extended attributes of the open file; return outcome and detail. Raises OSError."""
    if sys.platform != "linux":
        return Outcome.FAILED, None, "extended attributes are only supported on Linux"
    values = {"decision": reason.decision, "score": f"{reason.score:.4f}", "model": reason.model}
    for name, value in values.items():
        os.setxattr(picture.file, f"user.nsfwscan.{name}", value.encode())
    return Outcome.DONE, None, ""
