"""Which codec the pictures of an AVIF or HEIF file need, whatever its brands say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsfwscan.values.errors import DecodeError
from nsfwscan.values.results import FailReason

if TYPE_CHECKING:
    from nsfwscan.media.decode.formats.bmff import Bmff

_READ = {b"av01": "AVIF", b"hvc1": "HEIF", b"hev1": "HEIF"}

# Item types and sample entries of https://mp4ra.org/registered-types.
_NAMES = {
    b"av02": "AV2", b"avc1": "H.264", b"avc3": "H.264", b"evc1": "EVC", b"hvt1": "HEVC tiles",
    b"j2k1": "JPEG 2000", b"jpeg": "JPEG", b"jxl1": "JPEG XL", b"jxs1": "JPEG XS",
    b"lhe1": "layered HEVC", b"lhv1": "layered HEVC", b"mjpg": "JPEG", b"mp4v": "MPEG-4",
    b"unci": "uncompressed samples", b"uncv": "uncompressed samples", b"vvc1": "VVC",
    b"vvi1": "VVC",
}  # fmt: skip


def coding_of(file: Bmff) -> str:
    """Return `AVIF` or `HEIF`. Raises `DecodeError` for unsupported codings.

    A still picture decides; without one, a sequence.
    """
    kinds: set[bytes] = set()
    if file.meta is not None and file.primary is not None:
        kinds = file.meta.codings(file.meta.primary)
    elif file.sequence is not None:
        kinds = {file.sequence.kind}
    elif b"mini" in file.kinds:
        raise DecodeError(FailReason.UNSUPPORTED, "the minimized form of HEIF is not supported")
    elif file.cut:
        raise file.truncated()
    found = {_READ[kind] for kind in kinds if kind in _READ}
    others = sorted(kinds - _READ.keys())
    if others or len(found) > 1:
        name = _NAMES.get(others[0]) if others else "both AV1 and HEVC"
        name = name or f"'{others[0].decode('latin-1')}'"
        raise DecodeError(
            FailReason.UNSUPPORTED,
            f"a picture coded as {name} in an AVIF or HEIF file is not supported",
        )
    if not found:
        raise DecodeError(FailReason.CORRUPT, "the file does not say which picture to show")
    return found.pop()
