"""Multipart bodies: the only module that uses `multipart`, which is an extra."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from nsfwscan.serve.problems import RequestRefused

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_HEADER_BYTES = 8 << 10
"""The header of one part."""


class FormPart(NamedTuple):
    """One part of a multipart body."""

    name: str
    filename: str
    """As the client gave it; empty without one. Never used as a path."""
    content_type: str
    """As the client gave it; empty without one. Never believed."""
    data: bytes


class PartHead(NamedTuple):
    """The beginning of a part; see `FormPart`."""

    name: str
    filename: str
    content_type: str


def can_read() -> bool:
    """Return True if the extra that reads multipart bodies is installed."""
    return _library() is not None


def _library() -> Any:
    """Return the module `multipart`; None also if it is another library of that name."""
    try:
        import multipart
    except ImportError:
        return None
    return multipart if hasattr(multipart, "PushMultipartParser") else None


def is_multipart(content_type: str | None) -> bool:
    """Return True if a `Content-Type` header names a multipart form."""
    return (content_type or "").partition(";")[0].strip().lower() == "multipart/form-data"


class FormReader:
    """Takes a body that `is_multipart` in chunks, and gives its parts as they come."""

    def __init__(self, content_type: str, *, most_parts: int) -> None:
        """Take the boundary from the header.

        This and all methods raise `RequestRefused`: 400 if malformed, 413 for too many parts.
        """
        multipart = _library()
        if multipart is None:
            said = "multipart bodies need an extra: pip install 'nsfwscan[serve]'"
            raise RequestRefused(501, "no-multipart", said)
        self._multipart, self._most_parts = multipart, most_parts
        _, options = multipart.parse_options_header(content_type)
        boundary = options.get("boundary", "")
        if not boundary or len(boundary) > 200:
            raise RequestRefused(400, "bad-multipart", "the Content-Type has no usable boundary")
        self._parser = self._translated(
            multipart.PushMultipartParser,
            boundary,
            max_segment_count=most_parts,
            max_header_size=_HEADER_BYTES,
            header_charset="utf-8",
        )

    def feed(self, chunk: bytes) -> Iterator[PartHead | bytes | None]:
        """Yield a `PartHead`, then bytes of that part, then None at its end."""
        for event in self._translated(lambda: list(self._parser.parse(chunk))):
            if isinstance(event, self._multipart.MultipartSegment):
                yield PartHead(event.name or "", event.filename or "", event.content_type or "")
            else:
                yield bytes(event) if event else None

    def end(self) -> None:
        """Say that the body has ended."""
        self._translated(self._parser.close)

    def _translated(self, call: Any, *arguments: Any, **options: Any) -> Any:
        multipart = self._multipart
        try:
            return call(*arguments, **options)
        except multipart.ParserLimitReached:
            said = (
                f"the body has more than {self._most_parts} parts, or a part's header is too long"
            )
            raise RequestRefused(413, "too-many-parts", said) from None
        except (multipart.MultipartError, ValueError, LookupError) as error:
            # Some have the error that led to it as a second argument, as Python writes it.
            why = error.args[0] if isinstance(error, multipart.MultipartError) else error
            said = f"the multipart body is malformed: {why}"
            raise RequestRefused(400, "bad-multipart", said) from None


def split(body: bytes, content_type: str, *, most_parts: int) -> Sequence[FormPart]:
    """Return the parts of a body that `is_multipart`, in order.

    Raises `RequestRefused`: 400 for a malformed body, 413 for too many parts.
    """
    reader = FormReader(content_type, most_parts=most_parts)
    parts: list[FormPart] = []
    head, held = PartHead("", "", ""), bytearray()
    for event in reader.feed(body):
        if isinstance(event, PartHead):
            head = event
        elif event is not None:
            held += event
        else:
            parts.append(FormPart(*head, bytes(held)))
            held = bytearray()
    reader.end()
    return parts
