"""Pictures inside JSON: data URLs and base64. Nothing is fetched from the network."""

from __future__ import annotations

import base64
import binascii
import re
import string

_WEB = re.compile(r"(?:https?|ftp|file):", re.IGNORECASE)
_DATA = re.compile(r"data:[^,]{0,200}?;\s*base64\s*,", re.IGNORECASE)


class NotInline(ValueError):
    """The text is a web address, or no base64; `str()` is a sentence that says so."""

    def __init__(self, message: str, *, is_address: bool = False) -> None:
        super().__init__(message)
        self.is_address = is_address


def picture_in(text: str, *, bare: bool = False) -> bytes:
    """Return the bytes in a data URL in base64; with `bare`, also those of base64 alone.

    The media type is not read: content decides. Raises `NotInline`.
    """
    text = text.strip()
    if _WEB.match(text):
        raise NotInline(
            "this server fetches nothing from the network: send the picture as a data URL",
            is_address=True,
        )
    head = _DATA.match(text)
    if head is None and not (bare and not text.lower().startswith("data:")):
        raise NotInline("the picture is not a data URL in base64 (data:image/jpeg;base64,...)")
    encoded = text[head.end() :] if head else text
    try:
        # Not by split(): a list of millions of pieces takes thirty times their memory.
        packed = encoded.encode("ascii").translate(None, string.whitespace.encode())
        return base64.b64decode(packed, validate=True)
    except (binascii.Error, ValueError):
        raise NotInline("the base64 of the picture is invalid") from None
