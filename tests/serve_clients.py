"""How other programs read answers, in a few lines each, and what they send."""

from __future__ import annotations

import base64
import struct
from typing import Any

# What the fake model makes of a picture: its first byte out of 255, flagged from 0.8.
ALMOST_NSFW, JUST_NSFW = b"\xcb", b"\xcc"


def data_url(picture: bytes, kind: str = "image/jpeg") -> str:
    return f"data:{kind};base64,{base64.b64encode(picture).decode()}"


def parts(*pictures: bytes) -> list[tuple[str, tuple[str, bytes, str]]]:
    """Return the files of a request as Misskey sends it."""
    return [(f"image{at}", (f"{at}.png", data, "image/png")) for at, data in enumerate(pictures)]


class Misskey:
    """Reads as SensitiveMediaDetectionService and FileInfoService do: (sensitive, porn)."""

    def __init__(self, threshold: float = 0.5, porn: float = 0.75) -> None:
        self.threshold, self.porn = threshold, porn

    def read(self, status: int, body: Any, sent: int) -> list[tuple[bool, bool]]:
        nothing = [(False, False)] * sent
        if not 200 <= status < 300 or not self._is_answer(body) or not body["success"]:
            return nothing
        items = body["result"]["results"]
        if len(items) < sent:
            return nothing  # `item.success` of undefined throws, and everything is caught
        return [self._judge(item) for item in items[:sent]]

    def _judge(self, item: Any) -> tuple[bool, bool]:
        if not item["success"]:
            return False, False
        scores: dict[str, float] = {}
        for one in item["predictions"]:
            scores.setdefault(one["className"], one["probability"])
        sensitive = any(scores.get(name, 0) > self.threshold for name in ("Sexy", "Hentai", "Porn"))
        return sensitive, scores.get("Porn", 0) > self.porn

    @staticmethod
    def _is_answer(body: Any) -> bool:
        if not isinstance(body, dict):
            return False
        if body.get("success") is False:
            return isinstance(body["error"]["code"], str)
        return body.get("success") is True and all(
            isinstance(item["error"]["code"], str)
            if item["success"] is False
            else all(
                isinstance(one["className"], str) and isinstance(one["probability"], int | float)
                for one in item["predictions"]
            )
            for item in body["result"]["results"]
        )


_CLASSES = ("Drawing", "Hentai", "Neutral", "Porn", "Sexy")


def _single(value: float) -> float:
    """Return a number as Go's float32 has it."""
    return float(struct.unpack("f", struct.pack("f", value))[0])


def old_photoprism(body: Any, threshold: float) -> bool:
    """Return whether a version without `status` takes the first image for unsafe."""
    results = _photoprism_results(body)
    if not results:
        return False
    scores = {name: _single(results[0].get(name, 0)) for name in _CLASSES}
    if scores["Neutral"] > 0.25:
        return False
    return any(scores[name] > _single(threshold) for name in ("Porn", "Sexy", "Hentai"))


def photoprism(body: Any, images: int, threshold: float = 0.75) -> list[str]:
    """Return what a version with `status` makes of each image: safe, unsafe or unavailable."""
    results = _photoprism_results(body)[:images]
    found = [_decide(one, _single(threshold)) for one in results]
    return found + ["unavailable"] * (images - len(found))


def _decide(one: dict[str, Any], threshold: float) -> str:
    scores = [_single(one.get(name, 0)) for name in ("Porn", "Sexy", "Hentai")]
    if one.get("score") is not None:
        score = _single(one["score"])
    elif any(_single(one.get(name, 0)) > 0 for name in _CLASSES):
        score = max(scores)
    else:
        return str(one["status"]) if one["status"] in {"safe", "unsafe"} else "unavailable"
    return "unsafe" if score >= threshold else "safe"


def _photoprism_results(body: Any) -> list[Any]:
    """Check the types that its decoder demands; it ignores the HTTP status."""
    assert isinstance(body.get("id", ""), str)
    assert isinstance(body.get("code", 0), int)
    assert isinstance(body.get("error", ""), str)
    model = body.get("model") or {}
    assert isinstance(model.get("name", ""), str)
    assert isinstance(model.get("version", ""), str)
    assert isinstance(model.get("resolution", 0), int)
    results = (body.get("result") or {}).get("nsfw") or []
    for one in results:
        assert isinstance(one["status"], str)
        assert isinstance(one.get("reason", ""), str)
        assert all(isinstance(one.get(name, 0), int | float) for name in _CLASSES)
    return list(results)
