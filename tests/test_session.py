from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny_model

from nsfwscan.cache.cache import Cache
from nsfwscan.models import catalogue, select
from nsfwscan.models.manifest import MODEL_NAME, Artefact, Thresholds
from nsfwscan.models.package import open_package
from nsfwscan.models.provider import Provider
from nsfwscan.models.store import ModelStore
from nsfwscan.scanning import session
from nsfwscan.scanning.scanner import ScanOptions
from nsfwscan.scanning.session import Settings, loader, open_session, policy_of, threads_for
from nsfwscan.system import cores
from nsfwscan.values.errors import (
    CacheTooNew,
    CacheUnavailable,
    ModelUnusable,
    ResourcesExhausted,
    UsageError,
)

MANIFEST = tiny_model.manifest(b"")  # review at 0.5, flag at 0.8


def quiet(*_: object) -> None:
    """Say nothing."""


@pytest.mark.parametrize(
    ("review_at", "flag_at", "expected"),
    [
        (None, None, (0.5, 0.8)),
        (None, 0.9, (0.5, 0.9)),
        (None, 0.3, (0.3, 0.3)),
        (0.2, None, (0.2, 0.8)),
        (0.0, 1.0, (0.0, 1.0)),
        (0, 0, (0.0, 0.0)),
    ],
)
def test_thresholds_are_the_users_or_the_models(
    review_at: float | None, flag_at: float | None, expected: tuple[float, float]
) -> None:
    policy = policy_of(Settings(review_at=review_at, flag_at=flag_at), MANIFEST)
    assert (policy.review_at, policy.flag_at) == expected


def test_thresholds_that_make_no_sense_are_refused() -> None:
    for settings in (Settings(review_at=0.9), Settings(flag_at=1.5), Settings(review_at=-1)):
        with pytest.raises(UsageError):
            policy_of(settings, MANIFEST)


def test_one_run_takes_more_cores_only_when_there_are_few_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cores, "available", lambda: 8)
    paths = [str(tmp_path / f"{at}.jpg") for at in range(10)]
    for path in paths:
        Path(path).touch()
    assert threads_for(Settings(), paths[:1]) == 8
    assert threads_for(Settings(), paths[:3]) == 2
    assert threads_for(Settings(), paths) == 1
    assert threads_for(Settings(), [paths[0], str(tmp_path)]) == 1
    assert threads_for(Settings(), []) == 1
    assert threads_for(Settings(threads=5), [str(tmp_path)]) == 5


def test_a_session_scans_and_closes_its_library(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = []
    real = Cache.close
    monkeypatch.setattr(Cache, "close", lambda self: (closed.append(self), real(self)))
    (tmp_path / "a.jpg").touch()
    with open_session(
        Settings(offline=True), [], say=quiet, warn=pytest.fail, progress=quiet
    ) as opened:
        assert opened.manifest == open_package(str(tiny)).manifest
        assert opened.policy.flag_at == 0.8
        (result,) = opened.scanner(ScanOptions(), pytest.fail).scan([str(tmp_path)])
        assert result.path == str(tmp_path / "a.jpg")
    assert closed


def test_without_a_library_none_is_opened(tiny: Path, home: Path) -> None:
    settings = Settings(offline=True, use_cache=False)
    with open_session(settings, [], say=quiet, warn=pytest.fail, progress=quiet):
        pass
    assert not list(home.glob("library*"))


def test_a_cache_that_cannot_be_opened_is_a_warning(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> Any:
        raise CacheUnavailable("the disk is gone")

    monkeypatch.setattr(Cache, "open", refuse)
    warnings: list[str] = []
    with open_session(Settings(offline=True), [], say=quiet, warn=warnings.append, progress=quiet):
        pass
    assert warnings == ["the disk is gone; the scan continues, but its results will not be cached"]


def test_a_library_of_a_later_version_ends_the_scan(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> Any:
        raise CacheTooNew("later")

    monkeypatch.setattr(Cache, "open", refuse)
    with (
        pytest.raises(CacheTooNew),
        open_session(Settings(offline=True), [], say=quiet, warn=pytest.fail, progress=quiet),
    ):
        pass


def test_a_cache_that_cannot_be_written_answers_and_warns_once(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for at in range(3):
        (tmp_path / f"{at}.jpg").write_bytes(b"no picture %d" % at)
    settings = Settings(offline=True, scan=ScanOptions(jobs=1))

    def scan(warnings: list[str]) -> set[str]:
        with open_session(settings, [], say=quiet, warn=warnings.append, progress=quiet) as opened:
            return {
                str(one.origin)
                for one in opened.scanner(settings.scan, warnings.append).scan([str(tmp_path)])
            }  # type: ignore[union-attr]

    warnings: list[str] = []
    assert scan(warnings) == {"model"}

    def refuse(*_: object) -> None:
        raise CacheUnavailable("the disk is full")

    monkeypatch.setattr(Cache, "write", refuse)
    monkeypatch.setattr(Cache, "remember_model", refuse)
    assert scan(warnings) == {"cache"}
    assert warnings == [], "nothing was lost"
    (tmp_path / "new.jpg").write_bytes(b"no picture either")
    assert scan(warnings) == {"cache", "model"}
    assert len(warnings) == 1
    assert warnings[0].startswith("the disk is full")


def test_loading_imports_the_runtime_and_says_when_that_fails(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = loader(
        ModelStore(str(tiny.parent / "models")),
        open_package(str(tiny)),
        Settings(provider=Provider.CPU),
        1,
        pytest.fail,
    )
    assert load().manifest.name == "tiny"
    for name in ("runtime", "classifier"):
        monkeypatch.delitem(sys.modules, f"nsfwscan.models.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModelUnusable, match="onnxruntime cannot be loaded") as caught:
        load()
    assert f"{sys.executable} -m pip install" in caught.value.hint


@pytest.mark.parametrize(
    "said",
    [
        "libonnxruntime.so: failed to map segment from shared object",
        "libopenblas.so: cannot create shared object descriptor: Cannot allocate memory",
    ],
)
def test_too_little_memory_for_the_runtime_is_not_called_a_broken_installation(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    def refuse(_name: str, *_given: object) -> None:
        raise ImportError(said)

    load = loader(
        ModelStore(str(tiny.parent / "models")),
        open_package(str(tiny)),
        Settings(provider=Provider.CPU),
        1,
        pytest.fail,
    )
    for name in ("runtime", "classifier"):
        monkeypatch.delitem(sys.modules, f"nsfwscan.models.{name}", raising=False)
    monkeypatch.setattr("builtins.__import__", refuse)
    with pytest.raises(ResourcesExhausted) as caught:
        load()
    monkeypatch.undo()
    assert "ulimit" in caught.value.hint


@pytest.mark.parametrize(
    "said", ["Failed to allocate memory for requested buffer", "std::bad_alloc"]
)
def test_too_little_memory_for_a_model_or_a_picture_says_nothing_against_either(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    class Short:
        def __init__(self, *_given: object, **_more: object) -> None:
            raise RuntimeError(said)

        def run(self, *_given: object) -> None:
            raise RuntimeError(said)

    load = loader(
        ModelStore(str(tiny.parent / "models")),
        open_package(str(tiny)),
        Settings(provider=Provider.CPU),
        1,
        pytest.fail,
    )
    classifier = load()
    monkeypatch.setattr(classifier._graph, "_session", object.__new__(Short))  # type: ignore[attr-defined]
    crop = classifier.manifest.input.geometry
    with pytest.raises(ResourcesExhausted):
        classifier.classify(bytes(crop.crop_width * crop.crop_height * 3), 1)
    monkeypatch.setattr("onnxruntime.InferenceSession", Short)
    with pytest.raises(ResourcesExhausted):
        load()


def test_what_cannot_be_loaded_twice_is_not_begun_without_memory(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resource = pytest.importorskip("resource")
    load = loader(
        ModelStore(str(tiny.parent / "models")),
        open_package(str(tiny)),
        Settings(provider=Provider.CPU),
        1,
        pytest.fail,
    )
    monkeypatch.setattr(session, "_address_space", lambda: 3 << 30)
    for name in ("runtime", "classifier"):
        monkeypatch.delitem(sys.modules, f"nsfwscan.models.{name}", raising=False)
    monkeypatch.setattr(resource, "getrlimit", lambda _what: ((3 << 30) + (100 << 20), -1))
    with pytest.raises(ResourcesExhausted, match="100 MB of address space are left") as caught:
        load()
    assert "raise the limit by 412 MB" in caught.value.hint
    assert "nsfwscan.models.runtime" not in sys.modules


def test_settings_and_sessions_are_values() -> None:
    for kind in (Settings, session.Session):
        assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined] # typeshed lacks it
    assert dataclasses.replace(Settings(), threads=2).threads == 2


def test_a_published_model_gets_the_thresholds_of_this_release() -> None:
    entry = catalogue.load()["opennsfw"]
    installed = entry.manifest({MODEL_NAME: Artefact("ab" * 32, 10)})
    older = dataclasses.replace(installed, thresholds=Thresholds(0.1, 0.2, "an earlier release"))
    assert select.thresholds_of(older) == entry.thresholds
    for own in (
        dataclasses.replace(older, recipe="dynamic"),
        dataclasses.replace(older, revision="another"),
        dataclasses.replace(older, name="mine"),
    ):
        assert select.thresholds_of(own) == Thresholds(0.1, 0.2, "an earlier release")
