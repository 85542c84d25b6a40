from __future__ import annotations

import hashlib
import io
import logging
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import pictures
import pytest
import tiny_model
from conftest import Paint
from PIL import Image

import nsfwscan
from nsfwscan import api
from nsfwscan.scanning import engine
from nsfwscan.values.errors import DecodeError, ModelError, ModelUnusable, NsfwscanError, UsageError
from nsfwscan.values.results import Decision, Failed, FailReason, Origin, Scanned


def red(mode: str = "RGB") -> Image.Image:
    return Image.new("RGB", (40, 30), tiny_model.RED).convert(mode)


def encoded(image: Image.Image, form: str = "PNG") -> bytes:
    stream = io.BytesIO()
    image.save(stream, form)
    return stream.getvalue()


# scan


def test_scan_gives_a_result_for_each_picture(tiny: Path, tmp_path: Path, paint: Paint) -> None:
    paint(tmp_path / "a.png", tiny_model.GREEN)
    paint(tmp_path / "b.png", tiny_model.ORANGE)
    paint(tmp_path / "c.png", tiny_model.RED)
    (tmp_path / "d.jpg").write_bytes(b"no picture")
    *scanned, failed = nsfwscan.scan(tmp_path, offline=True)
    decisions = [one.verdict.decision for one in scanned if isinstance(one, Scanned)]
    assert decisions == [Decision.SAFE, Decision.REVIEW, Decision.NSFW]
    assert isinstance(failed, Failed)
    assert failed.reason is FailReason.UNRECOGNISED
    again = list(nsfwscan.scan([str(tmp_path / "a.png"), tmp_path / "c.png"], offline=True))
    assert [one.path for one in again] == [str(tmp_path / "a.png"), str(tmp_path / "c.png")]
    assert all(isinstance(one, Scanned) and one.origin is Origin.CACHE for one in again)


def test_scan_takes_thresholds_whole_numbers_too(tiny: Path, tmp_path: Path, paint: Paint) -> None:
    paint(tmp_path / "c.png", tiny_model.RED)
    options = nsfwscan.ScanOptions(count_known_safe=True)
    for _ in range(2):
        for result in nsfwscan.scan(
            tmp_path, flag_at=1, review_at=1, offline=True, options=options
        ):
            assert isinstance(result, Scanned)
            assert result.verdict.decision is Decision.SAFE


def test_scan_without_a_cache_writes_nothing(tiny: Path, home: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    list(nsfwscan.scan(tmp_path, offline=True, cache=False))
    assert [one.name for one in home.iterdir()] == ["models"]


def test_scan_expands_the_home_folder(
    tiny: Path, tmp_path: Path, paint: Paint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    paint(tmp_path / "a.png", tiny_model.RED)
    (result,) = nsfwscan.scan("~/a.png", offline=True)
    assert result.path == str(tmp_path / "a.png")


def test_scan_refuses_what_makes_no_sense(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        next(nsfwscan.scan(tmp_path / "gone", offline=True))
    with pytest.raises(UsageError, match="threshold"):
        next(nsfwscan.scan(tmp_path, flag_at=2, offline=True))
    with pytest.raises(ModelError):
        next(nsfwscan.scan(tmp_path, model="no-such-model", offline=True))


@pytest.mark.parametrize("name", ["flag_at", "review_at"])
@pytest.mark.parametrize("value", ["0.5", True, [0.5], 0.5j])
def test_a_threshold_that_is_not_a_number_is_a_type_error_that_names_it(
    tiny: Path, paint: Paint, tmp_path: Path, name: str, value: object
) -> None:
    picture = paint(tmp_path / "red.png", tiny_model.RED)
    wrong: Any = {name: value}
    said = f"{name} takes a number from 0 to 1, not {type(value).__name__}"
    for call in (
        lambda: next(nsfwscan.scan(picture, **wrong)),
        lambda: nsfwscan.classify(picture, **wrong),
    ):
        with pytest.raises(TypeError, match=said):
            call()


def test_leaving_the_loop_ends_the_scan(tiny: Path, tmp_path: Path, paint: Paint) -> None:
    for at in range(20):
        paint(tmp_path / f"{at}.png", tiny_model.RED)
    results = nsfwscan.scan(tmp_path, offline=True)
    for _ in results:
        break
    results.close()
    assert not [one for one in threading.enumerate() if one.name.startswith("nsfwscan")]
    again = [one for one in nsfwscan.scan(tmp_path, offline=True) if isinstance(one, Scanned)]
    assert again[0].origin is Origin.CACHE


# classify


def test_classify_takes_paths_bytes_and_images(tiny: Path, tmp_path: Path, paint: Paint) -> None:
    path = paint(tmp_path / "a.png", tiny_model.RED)
    with Image.open(path) as image:
        image.load()
    kinds = [path, str(path), path.read_bytes(), memoryview(path.read_bytes()), image]
    found = [nsfwscan.classify(one, offline=True) for one in kinds]  # type: ignore[arg-type] # memoryview is a kindness
    assert {one.verdict.decision for one in found} == {Decision.NSFW}
    assert len({one.scores for one in found}) == 1
    assert [one.path for one in found] == [str(path), str(path), "", "", ""]
    assert found[0].sha256 == found[2].sha256


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK", "YCbCr", "HSV", "LAB", "RGBX", "PA"])
def test_classify_takes_images_of_any_mode(mode: str, tiny: Path) -> None:
    image = red("P").convert("PA") if mode == "PA" else _in_mode(mode)
    result = nsfwscan.classify(image, offline=True)
    assert result.verdict.decision is Decision.NSFW


def _in_mode(mode: str) -> Image.Image:
    if mode == "LAB":
        from PIL import ImageCms

        lab, rgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(red(), rgb, lab, outputMode="LAB")
        assert converted is not None
        return converted
    return red(mode)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "I", "I;16", "I;16B", "F"])
def test_classify_takes_images_without_colour(mode: str, tiny: Path) -> None:
    assert nsfwscan.classify(Image.new(mode, (8, 8)), offline=True).scores.unsafe < 0.1


def test_sixteen_bits_of_grey_are_not_taken_for_white(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    real = engine.DecodePool.decode

    def decode(self: engine.DecodePool, data: bytes, geometry: object) -> object:
        decoded = real(self, data, geometry)  # type: ignore[arg-type] # handed on
        seen.append(decoded.pixels[0])
        return decoded

    monkeypatch.setattr(engine.DecodePool, "decode", decode)
    for mode in ("I", "I;16", "I;16B"):
        image = Image.new("I", (8, 8), 128 * 257)
        nsfwscan.classify(image if mode == "I" else image.convert(mode), offline=True)
    assert seen == [128, 128, 128]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", FailReason.UNRECOGNISED),
        (b"garbage", FailReason.UNRECOGNISED),
        (pictures.seeds()["JPEG baseline"][:200], FailReason.TRUNCATED),
    ],
)
def test_classify_raises_for_what_is_no_picture(
    data: bytes, reason: FailReason, tiny: Path, tmp_path: Path
) -> None:
    with pytest.raises(DecodeError) as caught:
        nsfwscan.classify(data, offline=True)
    assert caught.value.reason in {reason, FailReason.CORRUPT, FailReason.EMPTY}


def test_classify_raises_for_files_that_cannot_be_read(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(DecodeError) as caught:
        nsfwscan.classify(tmp_path / "empty.jpg", offline=True)
    assert caught.value.reason is FailReason.EMPTY


def test_classify_raises_for_images_that_cannot_be_loaded(tiny: Path) -> None:
    with pytest.raises(DecodeError):
        nsfwscan.classify(Image.new("RGB", (0, 0)), offline=True)
    cut = encoded(pictures.photo(400, 300), "JPEG")[:2000]
    with Image.open(io.BytesIO(cut)) as image, pytest.raises(DecodeError, match="truncated"):
        nsfwscan.classify(image, offline=True)


def test_what_is_no_path_and_no_picture_is_a_type_error(tiny: Path) -> None:
    for wrong in (None, 3, [b"list"]):
        with pytest.raises(TypeError, match=f"not {type(wrong).__name__}"):
            nsfwscan.classify(wrong, offline=True)  # type: ignore[arg-type] # that is the test
    for wrong in (None, 3, b"/bytes", [3], [b"/bytes"], [None]):
        for function in (nsfwscan.scan, nsfwscan.allow, nsfwscan.forget):
            with pytest.raises(TypeError, match="a path must be str"):
                list(function(wrong))  # type: ignore[arg-type, call-overload] # so is this


def test_a_path_that_does_not_exist_is_named_and_a_file_not_found_error(
    tiny: Path, tmp_path: Path
) -> None:
    for call in (nsfwscan.classify, lambda path: list(nsfwscan.scan(path)), nsfwscan.allow):
        with pytest.raises(FileNotFoundError) as caught:
            call(tmp_path / "nosuch.jpg")
        assert isinstance(caught.value, UsageError)
        assert str(caught.value) == f"{tmp_path}/nosuch.jpg does not exist"
        assert caught.value.filename == str(tmp_path / "nosuch.jpg")
        with pytest.raises(UsageError, match="holds a NUL byte"):
            call("nul\0.jpg")


def test_errors_about_a_file_name_it(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(encoded(red(), "JPEG")[:300])
    (tmp_path / "empty.jpg").touch()
    for name in ("broken.jpg", "empty.jpg"):
        with pytest.raises(DecodeError, match=f"^{tmp_path}/{name}: ") as caught:
            nsfwscan.classify(tmp_path / name, offline=True)
        assert caught.value.reason
    with pytest.raises(UsageError, match=f"^{tmp_path} is a folder$"):
        nsfwscan.classify(tmp_path, offline=True)


def test_errors_do_not_speak_of_the_command_line(tiny: Path, tmp_path: Path) -> None:
    for wrong in ({"flag_at": 2.0}, {"flag_at": 0.2, "review_at": 0.3}, {"model": "nothing"}):
        with pytest.raises(nsfwscan.NsfwscanError) as caught:
            nsfwscan.classify(encoded(red()), offline=True, **wrong)  # type: ignore[arg-type]
        assert "--" not in f"{caught.value} {caught.value.hint}"


def test_a_result_has_what_one_asks_for_first(tiny: Path) -> None:
    found = nsfwscan.classify(encoded(red()), offline=True)
    assert found.score == found.verdict.score
    assert found.decision is found.verdict.decision
    assert found.is_nsfw
    assert found.sha256_hex == hashlib.sha256(encoded(red())).hexdigest()


def test_classify_keeps_the_model_and_takes_new_thresholds(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encoded(red())
    first = nsfwscan.classify(data, offline=True)
    monkeypatch.setattr(api, "loader", lambda *_: pytest.fail("loaded again"))
    second = nsfwscan.classify(data, flag_at=1, review_at=1, offline=True)
    assert second.scores == first.scores
    assert second.verdict.decision is Decision.SAFE
    with pytest.raises(UsageError):
        nsfwscan.classify(data, flag_at=7, offline=True)


def test_classify_works_from_many_threads(tiny: Path) -> None:
    data = [encoded(Image.new("RGB", (20, 20), (at * 8, 0, 0))) for at in range(32)]
    nsfwscan.classify(data[0], offline=True)
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda one: nsfwscan.classify(one, offline=True), data))
    scores = [one.scores.unsafe for one in found]
    assert scores == sorted(scores)
    assert len(set(scores)) == len(scores)


def test_a_model_in_use_is_not_closed_when_others_are_asked_for(tmp_path: Path, home: Path) -> None:
    folders = [tiny_model.write_package(str(tmp_path), name=f"model{at}") for at in range(4)]
    data = encoded(red())
    scores = set()
    for _ in range(3):
        with ThreadPoolExecutor(4) as threads:
            for found in threads.map(lambda one: nsfwscan.classify(data, model=one), folders * 2):
                scores.add(found.scores.unsafe)
    assert len(scores) == 1
    assert len(api._kept) == 2


def test_a_call_that_fails_late_leaves_the_model_of_later_calls_alone(tiny: Path) -> None:
    entered, leave = threading.Event(), threading.Event()

    class Closed(engine.Engine):
        def examine(self, source: object, wanted: object = None) -> NoReturn:
            entered.set()
            leave.wait()
            raise NsfwscanError("decoding was stopped")

    data = encoded(red())
    loaded = api._load("auto", offline=True)
    loaded.engine = Closed(loaded.engine._load, loaded.manifest.input.geometry)
    with ThreadPoolExecutor(1) as thread:
        late = thread.submit(api._examine, "auto", True, loaded, data)
        entered.wait()
        api._close_engines()
        nsfwscan.classify(data, offline=True)
        (kept,) = api._kept.values()
        leave.set()
        with pytest.raises(NsfwscanError):
            late.result()
    assert list(api._kept.values()) == [kept]
    assert kept.engine.loaded


def test_a_model_that_cannot_be_loaded_leaves_no_process(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pools: list[engine.DecodePool] = []

    class Watched(engine.DecodePool):
        def __init__(self, workers: int) -> None:
            super().__init__(workers)
            pools.append(self)

    def refuse() -> None:
        raise ModelUnusable("no such operator")

    monkeypatch.setattr(
        api, "Engine", lambda *given, **named: engine.Engine(*given, **named, make_pool=Watched)
    )
    monkeypatch.setattr(api, "loader", lambda *_: refuse)
    for _ in range(2):
        with pytest.raises(ModelUnusable):
            nsfwscan.classify(encoded(red()), offline=True)
    assert len(pools) == 2
    assert not any(slot.is_running() for pool in pools for slot in pool._slots)


def test_remarks_go_to_the_logger(
    tiny: Path, home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    (home / "library.sqlite3").write_bytes(b"SQLite format 3\0" + b"damaged" * 500)
    with caplog.at_level(logging.INFO, "nsfwscan"):
        list(nsfwscan.scan(tmp_path, offline=True))
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("nsfwscan", "WARNING")
    assert "damaged" in record.getMessage()


_SCRIPT = """
import nsfwscan
results = list(nsfwscan.scan({folder!r}, offline=True))
print(len(results), results[0].verdict.decision)
print(nsfwscan.classify({picture!r}, offline=True).verdict.decision)
"""


def test_a_script_needs_no_main_guard_and_leaves_nothing(
    tiny: Path, tmp_path: Path, paint: Paint
) -> None:
    """`multiprocessing` would start the script again in each child."""
    picture = paint(tmp_path / "pictures" / "a.png", tiny_model.RED)
    script = tmp_path / "script.py"
    script.write_text(_SCRIPT.format(folder=str(picture.parent), picture=str(picture)))
    command = [sys.executable, "-W", "error", str(script)]
    root = str(Path(nsfwscan.__file__).parent.parent)
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=root,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert (done.stdout, done.stderr, done.returncode) == ("1 nsfw\nnsfw\n", "", 0)


def test_a_pillow_image_is_turned_as_its_metadata_say() -> None:
    upright = Image.new("RGB", (40, 30), tiny_model.GREEN)
    exif = upright.getexif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    upright.save(stream, "JPEG", exif=exif)
    stream.seek(0)
    _, data = api._bytes_of(Image.open(stream))
    assert Image.open(io.BytesIO(data)).getexif()[0x0112] == 6
