"""What the cache stores, as values, as bytes, and with the checksum that each row carries.

SQLite does not notice a flipped bit in a value: of 100 flips, half came back as altered rows. So a
row's checksum covers everything the row means: its values, its key, and what the key's numbers
stand for (the folder's path, the scorer), so that a row filed under the wrong key fails as well.
CRC-32 is enough against damage and finds every single flipped bit; it is no protection against
somebody who edits the file on purpose, and none is claimed.
"""

from __future__ import annotations

import json
import struct
import zlib
from typing import NamedTuple

from nsfwscan.values.file_key import KEY_BYTES, FileKey
from nsfwscan.values.likeness import UNKNOWN
from nsfwscan.values.outcome import Outcome, Scored, Scorer, Unscorable
from nsfwscan.values.results import FailReason, ImageFacts, Scores

SHA256_BYTES = 32

_TIME = struct.Struct("<q")
_LIKENESS = struct.Struct("<Q")


class Known(NamedTuple):
    """What the library knows of one file by one scorer."""

    key: FileKey
    """What `stat` told when the content was read; any difference means the file must be read."""
    sha256: bytes
    outcome: Outcome | None
    """None when this scorer has not seen the content."""
    written_at: int
    """When the file was read, seconds since the epoch, for rules by which knowledge expires."""
    likeness: int = UNKNOWN
    """See `nsfwscan.values.likeness`."""


class FileRow(NamedTuple):
    """(path, stat) -> digest. Written only when the stat may be trusted later."""

    path: str
    key: FileKey
    sha256: bytes


class LikenessRow(NamedTuple):
    """digest -> likeness."""

    sha256: bytes
    likeness: int


class OutcomeRow(NamedTuple):
    """(digest, scorer) -> outcome."""

    sha256: bytes
    scorer: Scorer
    outcome: Outcome


def encode_outcome(outcome: Outcome) -> bytes:
    """Return an outcome as JSON, which reads back to an equal value and reads well in SQL."""
    document: dict[str, object]
    if isinstance(outcome, Scored):
        document = {
            "unsafe": outcome.scores.unsafe,
            "probabilities": outcome.scores.probabilities,
            **outcome.facts._asdict(),
        }
        if not outcome.facts.missing:
            del document["missing"]
    else:
        document = {"failed": outcome.reason, "detail": outcome.detail}
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()


def decode_outcome(body: bytes) -> Outcome | None:
    """Read an outcome back; None when it uses a word that only a later version understands.

    The caller has checked the row's checksum, so the fields are those that were written.
    """
    document = json.loads(body)
    try:
        if "failed" in document:
            return Unscorable(FailReason(document["failed"]), document["detail"])
        document.setdefault("missing", "")
        facts = ImageFacts(*(document[field] for field in ImageFacts._fields))
        return Scored(facts, Scores(tuple(document["probabilities"]), document["unsafe"]))
    except (KeyError, ValueError):
        return None


def encode_likeness(likeness: int) -> bytes:
    """Return a likeness as 8 bytes: SQLite's integers have a sign and would not hold it."""
    return _LIKENESS.pack(likeness)


def decode_likeness(bits: bytes) -> int:
    """Read a likeness back whose row passed its checksum."""
    (likeness,) = _LIKENESS.unpack(bits)
    return int(likeness)


def file_checksum(folder: object, name: object, stat: object, sha256: object, at: object) -> int:
    """Return the checksum of a row of the table `file`; -1, which none has, for a broken row."""
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
    """Return the checksum of a row of the table `outcome`; -1, which none has, for a broken row."""
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


def likeness_checksum(sha256: object, bits: object) -> int:
    """Return the checksum of a row of the table `likeness`; -1, which none has, when broken."""
    if not (
        isinstance(sha256, bytes)
        and isinstance(bits, bytes)
        and len(sha256) == SHA256_BYTES
        and len(bits) == _LIKENESS.size
    ):
        return -1
    return zlib.crc32(b"".join((b"likeness", sha256, bits)))


def snapshot_checksum(folder: object, scorer: Scorer, body: object) -> int:
    """Return the checksum of a row of the table `snapshot`; -1, which none has, when broken."""
    if not (isinstance(folder, bytes) and isinstance(body, bytes)):
        return -1
    head = b"".join((b"snapshot", _scorer_bytes(scorer), b"\0", folder, b"\0"))
    return zlib.crc32(body, zlib.crc32(head))


def model_checksum(fingerprint: object, name: object, labels: object) -> int:
    """Return the checksum of a row of the table `model`; -1, which none has, for a broken row."""
    if not (
        isinstance(fingerprint, bytes) and isinstance(name, bytes) and isinstance(labels, bytes)
    ):
        return -1
    return zlib.crc32(b"\0".join((b"model", fingerprint, name, labels)))


def place_checksum(path: object, identity: object) -> int:
    """Return the checksum of a row of the table `place`; -1, which none has, for a broken row."""
    if not (isinstance(path, bytes) and isinstance(identity, bytes)):
        return -1
    return zlib.crc32(b"\0".join((b"place", path, identity)))


def _scorer_bytes(scorer: Scorer) -> bytes:
    return f"{scorer.fingerprint} {scorer.decoder}".encode()
