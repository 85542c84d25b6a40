"""The protocol on a decode worker's pipes.

The parent sends requests and the child sends answers; each is a header of fixed size and a body of
the length given in the header. The parent trusts nothing it reads: a hostile file may have taken
over the child that decoded it. Malformed data raises `Garbled`.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

from nsfwscan.media.decode.decoded import MAX_VIEWS, Decoded
from nsfwscan.values.errors import DecodeError
from nsfwscan.values.facts import KINDS, MOST_BYTES, ContentFacts
from nsfwscan.values.geometry import Geometry, Resample, Resize
from nsfwscan.values.results import FailReason, ImageFacts

GO = b"\1"
"""Sent by the parent when a child may allocate the memory it asked for."""

SHORT = 75
"""Exit code of a child that was refused memory or a file between two pictures; EX_TEMPFAIL."""

_REQUEST = struct.Struct("<IQ?BBHHHH")
_ANSWER = struct.Struct("<IB?I")
_NEED = struct.Struct("<Q")
_FACTS = struct.Struct("<8sIIIHHB")
_FACT = struct.Struct("<BI")
_FRAME_BYTES = 4
REQUEST_BYTES = _REQUEST.size
ANSWER_BYTES = _ANSWER.size

_RESIZES = tuple(Resize)
_RESAMPLES = tuple(Resample)
_MAX_DETAIL = 300


class Garbled(Exception):
    """The other side did not follow this protocol."""


class MessageKind(IntEnum):
    """The kind of an answer."""

    HELLO = 0
    """The child has started. No body; it belongs to no request."""
    NEED = 1
    """The picture needs this much memory; the child waits for permission."""
    DECODED = 2
    REFUSED = 3


class DecodeRequest(NamedTuple):
    """The header of a request; `length` bytes of the picture file follow."""

    number: int
    length: int
    full: bool
    geometry: Geometry

    def pack(self) -> bytes:
        """Return the header as bytes."""
        geometry = self.geometry
        return _REQUEST.pack(
            self.number,
            self.length,
            self.full,
            _RESIZES.index(geometry.resize),
            _RESAMPLES.index(geometry.resample),
            geometry.resize_width,
            geometry.resize_height,
            geometry.crop_width,
            geometry.crop_height,
        )

    @classmethod
    def unpack(cls, header: bytes) -> DecodeRequest:
        """Read a header of `REQUEST_BYTES` bytes, which the parent is trusted to have packed."""
        number, length, full, resize, resample, *lengths = _REQUEST.unpack(header)
        width, height, crop_width, crop_height = lengths
        geometry = Geometry(
            _RESIZES[resize], width, height, _RESAMPLES[resample], crop_width, crop_height
        )
        return cls(number, length, full, geometry)


class Answer(NamedTuple):
    """The header of an answer; `length` bytes follow."""

    number: int
    kind: MessageKind
    leaving: bool
    """The child wants to be replaced, because it has grown or has decoded many pictures."""
    length: int

    def pack(self) -> bytes:
        """Return the header as bytes."""
        return _ANSWER.pack(*self)

    @classmethod
    def unpack(cls, header: bytes, *, number: int, most: int) -> Answer:
        """Read a header, which must answer request `number` in at most `most` bytes."""
        got, kind, leaving, length = _ANSWER.unpack(header)
        if got != number or length > most or kind not in MessageKind.__members__.values():
            raise Garbled
        return cls(got, MessageKind(kind), leaving, length)


def longest_answer(geometry: Geometry) -> int:
    """Return the largest possible size of an answer's body, in bytes."""
    frame = geometry.crop_width * geometry.crop_height * 3
    text = 8 * _MAX_DETAIL
    facts = sum(_FACT.size + (kind.width or MOST_BYTES) for kind in KINDS)
    return text + _FACTS.size + facts + MAX_VIEWS * (_FRAME_BYTES + frame)


def pack_need(memory: int) -> bytes:
    """Return the body of a `NEED` answer; `memory` in bytes."""
    return _NEED.pack(memory)


def pack_decoded(decoded: Decoded) -> bytes:
    """Return the body of a `DECODED` answer."""
    facts = decoded.facts
    missing = facts.missing[:_MAX_DETAIL].encode(errors="replace")
    head = _FACTS.pack(
        facts.format.encode(),
        facts.width,
        facts.height,
        facts.frames,
        decoded.views,
        len(missing),
        len(decoded.content_facts),
    )
    content_facts = [
        _FACT.pack(KINDS.index(kind), len(body)) + body
        for kind, body in decoded.content_facts.items()
    ]
    shown = struct.pack(f"<{decoded.views}I", *decoded.shown)
    return b"".join((head, missing, *content_facts, shown, decoded.pixels))


def unpack_decoded(body: bytes, geometry: Geometry) -> Decoded:
    """Read the body of a `DECODED` answer to a request with this geometry."""
    if len(body) < _FACTS.size:
        raise Garbled
    name, width, height, frames, views, said, known = _FACTS.unpack_from(body)
    at = _FACTS.size + said
    missing = body[_FACTS.size : at]
    content_facts, at = _unpack_facts(body, at, known)
    pixels = body[at + _FRAME_BYTES * views :]
    expected = views * geometry.crop_width * geometry.crop_height * 3
    if not (frames >= 1 and 1 <= views <= MAX_VIEWS and len(pixels) == expected):
        raise Garbled
    shown = struct.unpack_from(f"<{views}I", body, at)
    if max(shown) >= frames:
        raise Garbled
    facts = ImageFacts(_text(name.rstrip(b"\0")), width, height, frames, _text(missing))
    return Decoded(facts, shown, pixels, content_facts)


def _unpack_facts(body: bytes, at: int, count: int) -> tuple[ContentFacts, int]:
    """Read `count` facts from position `at`; return them, and where they end."""
    facts = {}
    for _ in range(count):
        if len(body) - at < _FACT.size:
            raise Garbled
        index, length = _FACT.unpack_from(body, at)
        fact = body[at + _FACT.size : at + _FACT.size + length]
        if index >= len(KINDS) or len(fact) != length or not KINDS[index].takes(fact):
            raise Garbled
        facts[KINDS[index]] = fact
        at += _FACT.size + length
    return facts, at


def pack_refused(error: DecodeError) -> bytes:
    """Return the body of a `REFUSED` answer."""
    lasts = "transient" if error.transient else "lasting"
    return f"{error.reason}\n{lasts}\n{error.detail[:_MAX_DETAIL]}".encode(errors="replace")


def unpack_refused(body: bytes) -> DecodeError:
    """Read the body of a `REFUSED` answer."""
    reason, _, rest = body.partition(b"\n")
    lasts, _, detail = rest.partition(b"\n")
    try:
        return DecodeError(FailReason(_text(reason)), _text(detail), transient=lasts != b"lasting")
    except ValueError:
        raise Garbled from None


def _text(raw: bytes) -> str:
    """Decode text for people to read: hostile names must not contain control characters."""
    return "".join(
        letter if letter.isprintable() else "?" for letter in raw.decode("utf-8", "replace")
    )
