"""The cache's rows, as values and as bytes, and the checksum in each row.

SQLite does not notice a flipped bit in a value: of 100 flips, half came back as altered rows. So a
row's checksum covers all that the row means: its values, its key, and what the numbers in the key
stand for (the folder's path, the scorer), so that a row under the wrong key fails as well. CRC-32
is enough against damage and detects every single flipped bit. It does not protect against
deliberate edits, and is not meant to.
"""

from __future__ import annotations

import json
import struct
import zlib
from typing import NamedTuple

from nsfwscan.values.facts import NO_FACTS, ContentFacts, FactKind
from nsfwscan.values.file_key import KEY_BYTES, FileKey
from nsfwscan.values.outcome import Outcome, Scored, Scorer, Unscorable
from nsfwscan.values.place import Part
from nsfwscan.values.results import FailReason, ImageFacts, Scores

SHA256_BYTES = 32

_TIME = struct.Struct("<q")
_NUMBER = struct.Struct("<I")


class Known(NamedTuple):
    """What is known about one file from one scorer."""

    key: FileKey
    """`stat` when the content was read; if it differs now, the file must be read again."""
    sha256: bytes
    outcome: Outcome | None
    """None if this scorer has no outcome for the content."""
    written_at: int
    """When the file was read, in seconds since the epoch, for rules that expire rows."""
    facts: ContentFacts = NO_FACTS
    """The known facts, of the kinds in `IN_COLUMNS`."""


class FileRow(NamedTuple):
    """(path, stat) -> digest. The stat is `NEVER` if it cannot be trusted later."""

    path: str
    key: FileKey
    sha256: bytes


class FactRow(NamedTuple):
    """(digest, kind) -> fact."""

    sha256: bytes
    kind: FactKind
    body: bytes


class PartRow(NamedTuple):
    """(digest of a file, number) -> one of its parts, and that part's digest."""

    container: bytes
    number: int
    """From 0, in the file's order."""
    part: Part
    sha256: bytes


class OutcomeRow(NamedTuple):
    """(digest, scorer) -> outcome."""

    sha256: bytes
    scorer: Scorer
    outcome: Outcome


def encode_outcome(outcome: Outcome) -> bytes:
    """Return an outcome as JSON that reads back to an equal value and is legible in SQL."""
    document: dict[str, object]
    if isinstance(outcome, Scored):
        document = {
            "unsafe": outcome.scores.unsafe,
            "probabilities": outcome.scores.probabilities,
            **outcome.facts._asdict(),
        }
        if not outcome.facts.missing:
            del document["missing"]
        if outcome.frame is not None:
            document["frame"] = outcome.frame
    else:
        document = {"failed": outcome.reason, "detail": outcome.detail}
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()


def decode_outcome(body: bytes) -> Outcome | None:
    """Return the outcome; None if it uses a code that only a later version knows.

    The caller has checked the row's checksum, so the fields are those that were written.
    """
    document = json.loads(body)
    try:
        if "failed" in document:
            return Unscorable(FailReason(document["failed"]), document["detail"])
        document.setdefault("missing", "")
        facts = ImageFacts(*(document[field] for field in ImageFacts._fields))
        scores = Scores(tuple(document["probabilities"]), document["unsafe"])
        return Scored(facts, scores, document.get("frame"))
    except (KeyError, ValueError):
        return None


def encode_part(part: Part) -> bytes:
    """Return a part as JSON, without its empty fields."""
    document = {name: value for name, value in part._asdict().items() if value not in ("", None)}
    return json.dumps(document, separators=(",", ":")).encode()


def decode_part(body: bytes) -> Part:
    """Return the part from `encode_part`; the caller has checked the row's checksum."""
    return Part(**json.loads(body))


def file_checksum(folder: object, name: object, stat: object, sha256: object, at: object) -> int:
    """Return the checksum of a row of `file`, or -1, which never matches, if malformed."""
    if not (
        isinstance(folder, bytes)
        and isinstance(name, bytes)
        and isinstance(stat, bytes)
        and isinstance(sha256, bytes)
        and isinstance(at, int)
        and len(stat) == KEY_BYTES
        and len(sha256) == SHA256_BYTES
    ):
        return -1
    # Fixed lengths first, then two texts that cannot hold a NUL: no two rows give the same bytes.
    return zlib.crc32(b"".join((b"file", stat, sha256, _TIME.pack(at), folder, b"\0", name)))


def outcome_checksum(scorer: Scorer, sha256: object, at: object, body: object) -> int:
    """Return the checksum of a row of `outcome`, or -1, which never matches, if malformed."""
    if not (
        isinstance(sha256, bytes)
        and isinstance(at, int)
        and isinstance(body, bytes)
        and len(sha256) == SHA256_BYTES
    ):
        return -1
    return zlib.crc32(
        b"".join((b"outcome", sha256, _TIME.pack(at), _scorer_bytes(scorer), b"\0", body))
    )


def fact_checksum(sha256: object, kind: object, version: object, body: object) -> int:
    """Return the checksum of a row of `fact`, or -1, which never matches, if malformed."""
    if not (
        isinstance(sha256, bytes)
        and isinstance(kind, bytes)
        and isinstance(version, bytes)
        and isinstance(body, bytes)
        and len(sha256) == SHA256_BYTES
    ):
        return -1
    return zlib.crc32(b"".join((b"fact", sha256, kind, b"\0", version, b"\0", body)))


def part_checksum(container: object, number: object, part: object, sha256: object) -> int:
    """Return the checksum of a row of `part`, or -1, which never matches, if malformed."""
    if not (
        isinstance(container, bytes)
        and isinstance(number, int)
        and isinstance(part, bytes)
        and isinstance(sha256, bytes)
        and len(container) == len(sha256) == SHA256_BYTES
        and 0 <= number < 1 << 32
    ):
        return -1
    return zlib.crc32(b"".join((b"part", container, sha256, _NUMBER.pack(number), part)))


def snapshot_checksum(folder: object, scorer: Scorer, body: object) -> int:
    """Return the checksum of a row of `snapshot`, or -1, which never matches, if malformed."""
    if not (isinstance(folder, bytes) and isinstance(body, bytes)):
        return -1
    head = b"".join((b"snapshot", _scorer_bytes(scorer), b"\0", folder, b"\0"))
    return zlib.crc32(body, zlib.crc32(head))


def model_checksum(fingerprint: object, name: object, labels: object) -> int:
    """Return the checksum of a row of `model`, or -1, which never matches, if malformed."""
    if not (
        isinstance(fingerprint, bytes) and isinstance(name, bytes) and isinstance(labels, bytes)
    ):
        return -1
    return zlib.crc32(b"\0".join((b"model", fingerprint, name, labels)))


def place_checksum(path: object, identity: object) -> int:
    """Return the checksum of a row of `place`, or -1, which never matches, if malformed."""
    if not (isinstance(path, bytes) and isinstance(identity, bytes)):
        return -1
    return zlib.crc32(b"\0".join((b"place", path, identity)))


def _scorer_bytes(scorer: Scorer) -> bytes:
    return f"{scorer.fingerprint} {scorer.decoder}".encode()
