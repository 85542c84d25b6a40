"""Multipart bodies: the only module that uses `multipart`, which is an extra."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from nsfwscan.serve.problems import RequestRefused

if TYPE_CHECKING:
    from collections.abc import Sequence

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


def is_multipart(content_type: str | None) -> bool:
    """Return True if a `Content-Type` header names a multipart form."""
    return (content_type or "").partition(";")[0].strip().lower() == "multipart/form-data"


def split(body: bytes, content_type: str, *, most_parts: int) -> Sequence[FormPart]:
    """Return the parts of a body that `is_multipart`, in order.

    Raises `RequestRefused`: 400 for a malformed body, 413 for too many parts.
    """
    try:
        import multipart
    except ImportError:
        said = "multipart bodies need an extra: pip install 'nsfwscan[serve]'"
        raise RequestRefused(501, "no-multipart", said) from None
    _, options = multipart.parse_options_header(content_type)
    boundary = options.get("boundary", "")
    if not boundary or len(boundary) > 200:
        raise RequestRefused(400, "bad-multipart", "the Content-Type has no usable boundary")
    parts: list[FormPart] = []
    held = bytearray()
    try:
        with multipart.PushMultipartParser(
            boundary,
            max_segment_count=most_parts,
            max_header_size=_HEADER_BYTES,
            header_charset="utf-8",
        ) as parser:
            segment = None
            for event in parser.parse(body):
                if isinstance(event, multipart.MultipartSegment):
                    segment = event
                elif event:
                    held += event
                elif segment is not None:
                    parts.append(
                        FormPart(
                            segment.name or "",
                            segment.filename or "",
                            segment.content_type or "",
                            bytes(held),
                        )
                    )
                    held = bytearray()
    except multipart.ParserLimitReached:
        said = f"the body has more than {most_parts} parts, or a part's header is too long"
        raise RequestRefused(413, "too-many-parts", said) from None
    except (multipart.MultipartError, ValueError, LookupError) as error:
        said = f"the multipart body is malformed: {error}"
        raise RequestRefused(400, "bad-multipart", said) from None
    return parts
