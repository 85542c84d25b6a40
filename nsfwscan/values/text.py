"""Text that is safe to print: no control characters, no invalid UTF-8."""

from __future__ import annotations

_ESCAPES = {
    code: f"\\x{code:02x}" for code in (*range(32), *range(0x7F, 0xA0)) if chr(code) not in "\t\n\r"
} | {ord("\t"): "\\t", ord("\n"): "\\n", ord("\r"): "\\r"}
# Direction marks and overrides make "gpj.exe" look like "exe.jpg"; separators start a new line in
# some programs.
_MISLEADING = (0x061C, 0x200E, 0x200F, 0x2028, 0x2029, *range(0x202A, 0x202F))
_MISLEADING += tuple(range(0x2066, 0x206A))
_ESCAPES |= {code: f"\\u{code:04x}" for code in _MISLEADING}
_JSON_ESCAPES = {code: f"\\u{code:04x}" for code in (*range(0x7F, 0xA0), *_MISLEADING)}


def readable(path: str) -> str:
    r"""Return `path` so that a person can read it and it cannot mislead a terminal.

    Control characters and bytes that aren't valid UTF-8 appear as `\n` or `\xNN`.
    """
    return printable(path).translate(_ESCAPES)


def plain_json(document: str) -> str:
    r"""Return a JSON text whose strings hold no character that could mislead a terminal.

    JSON only requires the first 32 control characters to be escaped, but U+009B starts a terminal
    command like ESC [ does. The meaning does not change: such characters only occur in strings.
    """
    return document.translate(_JSON_ESCAPES)


def printable(path: str) -> str:
    r"""Return `path` as text that is valid Unicode; other bytes appear as `\xNN`."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def count(number: int, one: str, many: str = "") -> str:
    """Return `1 picture` or `12,345 pictures`, for example."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def duration(seconds: float) -> str:
    """Return `0.8 s`, `42 s`, `3 min 5 s` or `2 h 10 min`, for example."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def size(bytes_: int) -> str:
    """Return `820 bytes` or `23.6 MB`, for example."""
    if bytes_ < 1000:
        return count(bytes_, "byte")
    unit, scale = next(
        # A value that would round to 1000.0 of a unit is 1.0 of the next.
        ((unit, scale) for unit, scale in (("kB", 1e3), ("MB", 1e6)) if bytes_ < scale * 999.95),
        ("GB", 1e9),
    )
    return f"{bytes_ / scale:.1f} {unit}"
