"""The protocol on a decode worker's pipes.

The parent sends requests and the child sends answers; each is a header of fixed size and a body of
the length given in the header. The parent trusts nothing it reads: a hostile file may have taken
over the child that decoded it. Malformed data raises `Garbled`.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple, Protocol, TypeVar

from nsfwscan.media.decode.decoded import MAX_VIEWS, Decoded
from nsfwscan.media.decode.thumbnail import PIXELATED_LONGEST, Thumbnail, ThumbnailForm
from nsfwscan.values.errors import DecodeError
from nsfwscan.values.facts import KINDS, MOST_BYTES, ContentFacts
from nsfwscan.values.geometry import Geometry, Resample, Resize
from nsfwscan.values.results import FailReason, ImageFacts

_T = TypeVar("_T", covariant=True)

GO = b"\1"
"""Sent by the parent when a child may allocate the memory it asked for."""

SHORT = 75
"""Exit code of a child that was refused memory or a file between two pictures; EX_TEMPFAIL."""

_REQUEST = struct.Struct("<IQB")
_DECODE = struct.Struct("<?BBHHHH")
_THUMBNAIL = struct.Struct("<HB?I3x")
_ANSWER = struct.Struct("<IB?I")
_NEED = struct.Struct("<Q")
_FACTS = struct.Struct("<8sIIIHHB")
_FACT = struct.Struct("<BI")
_SIZE = struct.Struct("<HH")
_FRAME_BYTES = 4
REQUEST_BYTES = _REQUEST.size + _DECODE.size
ANSWER_BYTES = _ANSWER.size

_RESIZES = tuple(Resize)
_RESAMPLES = tuple(Resample)
_FORMS = tuple(ThumbnailForm)
_MAX_DETAIL = 300
_MAX_TEXT = 8 * _MAX_DETAIL


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
    THUMBNAIL = 4


class Purpose(Protocol[_T]):
    """What a request asks for, and how its answer is read."""

    @property
    def answer(self) -> MessageKind:
        """The kind of the answer if all is well."""

    @property
    def longest_answer(self) -> int:
        """The maximum size of the answer's body, in bytes."""

    def pack(self) -> bytes:
        """Return this part of the header; its size is fixed."""

    def result(self, body: bytes) -> _T:
        """Read the body of the answer. Raises `Garbled`."""


class DecodeRequest(NamedTuple):
    """Asks for a picture at the size that a model takes."""

    full: bool
    geometry: Geometry

    @property
    def answer(self) -> MessageKind:
        """See `Purpose`."""
        return MessageKind.DECODED

    @property
    def longest_answer(self) -> int:
        """See `Purpose`."""
        frame = self.geometry.crop_width * self.geometry.crop_height * 3
        facts = sum(_FACT.size + (kind.width or MOST_BYTES) for kind in KINDS)
        return _MAX_TEXT + _FACTS.size + facts + MAX_VIEWS * (_FRAME_BYTES + frame)

    def pack(self) -> bytes:
        """See `Purpose`."""
        geometry = self.geometry
        return _DECODE.pack(
            self.full,
            _RESIZES.index(geometry.resize),
            _RESAMPLES.index(geometry.resample),
            geometry.resize_width,
            geometry.resize_height,
            geometry.crop_width,
            geometry.crop_height,
        )

    @classmethod
    def unpack(cls, packed: bytes) -> DecodeRequest:
        """Read what `pack` returned."""
        full, resize, resample, *lengths = _DECODE.unpack(packed)
        width, height, crop_width, crop_height = lengths
        geometry = Geometry(
            _RESIZES[resize], width, height, _RESAMPLES[resample], crop_width, crop_height
        )
        return cls(full, geometry)

    def result(self, body: bytes) -> Decoded:
        """See `Purpose`."""
        return unpack_decoded(body, self.geometry)


class ThumbnailRequest(NamedTuple):
    """Asks for a thumbnail; see `nsfwscan.media.decode.pool.DecodePool.thumbnail`."""

    longest: int
    form: ThumbnailForm
    pixelated: bool
    frame: int

    @property
    def answer(self) -> MessageKind:
        """See `Purpose`."""
        return MessageKind.THUMBNAIL

    @property
    def longest_answer(self) -> int:
        """See `Purpose`."""
        # Twice the pixels: no encoder gets near that, except with the tables of a tiny picture.
        return _MAX_TEXT + 2 * 3 * self.longest * self.longest

    def pack(self) -> bytes:
        """See `Purpose`."""
        form = _FORMS.index(self.form)
        return _THUMBNAIL.pack(self.longest, form, self.pixelated, self.frame)

    @classmethod
    def unpack(cls, packed: bytes) -> ThumbnailRequest:
        """Read what `pack` returned."""
        longest, form, pixelated, frame = _THUMBNAIL.unpack(packed)
        return cls(longest, _FORMS[form], pixelated, frame)

    def result(self, body: bytes) -> Thumbnail:
        """See `Purpose`."""
        if len(body) <= _SIZE.size:
            raise Garbled
        width, height = _SIZE.unpack_from(body)
        data = body[_SIZE.size :]
        most = PIXELATED_LONGEST if self.pixelated else self.longest
        wrong = self.form is ThumbnailForm.RGB and len(data) != 3 * width * height
        if wrong or not (1 <= width <= most and 1 <= height <= most):
            raise Garbled
        return Thumbnail(data, self.form, width, height)


def pack_request(number: int, length: int, wanted: Purpose[_T]) -> bytes:
    """Return the header of a request; `length` bytes of the picture file follow."""
    return _REQUEST.pack(number, length, wanted.answer) + wanted.pack()


class Request(NamedTuple):
    """The header of a request."""

    number: int
    length: int
    wanted: DecodeRequest | ThumbnailRequest

    @classmethod
    def unpack(cls, header: bytes) -> Request:
        """Read a header of `REQUEST_BYTES` bytes, which the parent is trusted to have packed."""
        number, length, answer = _REQUEST.unpack_from(header)
        kind = ThumbnailRequest if answer == MessageKind.THUMBNAIL else DecodeRequest
        return cls(number, length, kind.unpack(header[_REQUEST.size :]))


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


def pack_need(memory: int) -> bytes:
    """Return the body of a `NEED` answer; `memory` in bytes."""
    return _NEED.pack(memory)


def pack_thumbnail(thumbnail: Thumbnail) -> bytes:
    """Return the body of a `THUMBNAIL` answer."""
    return _SIZE.pack(thumbnail.width, thumbnail.height) + thumbnail.data


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
