"""The benchmarks of the watcher run at a tiny size: what they find is judged, their times not."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from benchmarks import watch_hostile, watch_latency, watch_person, watch_soak, watched
from benchmarks.watched import Fact, Line, View, Watched

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="they look at /proc")


def test_latencies(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(watch_latency, "_QUIET_S", 1.0)
    monkeypatch.setattr(watch_latency, "_WARM_UP", 1)
    watch_latency.main(["--tiny", "--singles", "2", "--burst", "10", "--idle-seconds", "0.5"])
    printed = capsys.readouterr().out
    for settle_ms in (1000, 100):
        for what, files in (("single files", 2), ("a burst of 10", 10)):
            row = rf"^\| --settle-ms {settle_ms}, {what} +\| +{files} \| +(\d+\.\d) \| +(\d+\.\d) "
            found = re.search(row, printed, re.MULTILINE)
            assert found is not None, printed
            median, highest = map(float, found.groups())
            assert settle_ms <= median <= highest
    assert len(re.findall(r"^\| --settle-ms \d+ +\| .*%", printed, re.MULTILINE)) == 2


def test_a_percentile_is_one_of_the_values() -> None:
    assert watch_latency.percentile([3.0, 1.0, 2.0], 99) == 3.0
    assert watch_latency.percentile(list(map(float, range(1, 201))), 99) == 198.0


def test_a_soak(capsys: pytest.CaptureFixture[str]) -> None:
    options = "--rounds 1 --deaths 1 --overflows 1 --reloads 1 --pictures 60 --burst 20".split()
    with pytest.raises(SystemExit) as ended:
        watch_soak.main(["--events", "300", "--unbroken", *options])
    printed = capsys.readouterr().out
    assert ended.value.code == 0, printed
    assert "1 decode processes killed, 1 overflows, 1 SIGHUPs" in printed
    assert printed.endswith("equal to a fresh scan, and flat\n")


def test_what_grows_is_found() -> None:
    def sample(at: int, memory_mb: float, descriptors: int) -> watch_soak.Sample:
        held = watched.Held(memory_mb, memory_mb, descriptors, 7, 1, 2)
        return watch_soak.Sample(1000 * at, at, at, 1, 1, held)

    flat = [sample(at, 90 + at % 2, 14) for at in range(20)]
    assert watch_soak.growth(flat) == []
    grows = [sample(at, 90 + 2 * at, 14 + at) for at in range(20)]
    assert watch_soak.growth(grows) == [
        "memory grew from 104 to 124 MB",
        "descriptors grew from 21 to 31",
    ]
    assert watch_soak.slope(grows, lambda held: held.memory_mb) == pytest.approx(200)


def test_what_is_told_wrongly_is_found() -> None:
    view = View()
    record = {"path": "/a", "sha256": "1", "decision": "safe", "status": "scanned"}
    for at, event in enumerate(("new", "new", "gone", "gone", "changed")):
        view.take(Line(at, record | {"event": event}))
    view.take(Line(9, record | {"event": "moved", "path": "/c", "from": "/b"}))
    assert [line.at for line in view.repeated] == [1]
    assert [one.partition(",")[0].partition(":")[0] for one in view.wrong] == [
        "gone", "changed", "moved from where nothing was known",
    ]  # fmt: skip
    there = {"/a": Fact("1", "safe"), "/c": Fact("2", "safe")}
    (difference,) = watched.differences(view.known, there)
    assert difference.startswith("/c: Fact(sha256='1'")


@pytest.mark.parametrize("scene", ["moves", "restarted"])
def test_scenes(scene: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        watch_person.main(["--small", "--photographs", "8", scene])
    printed = capsys.readouterr().out
    assert ended.value.code == 0, printed
    assert re.search(rf"^ok +{scene}: ", printed, re.MULTILINE)


def test_a_scene_that_goes_wrong_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def goes_wrong(_stage: watch_person.Stage) -> str:
        raise watch_person.Wrong("a picture was missed")

    def is_skipped(_stage: watch_person.Stage) -> str:
        raise watch_person.SkipScene("there is no disk")

    monkeypatch.setattr(watch_person, "SCENES", {"one": goes_wrong, "two": is_skipped})
    with pytest.raises(SystemExit) as ended:
        watch_person.main(["--small"])
    assert ended.value.code == 1
    printed = capsys.readouterr().out
    assert re.search(r"^FAILED +one: a picture was missed \(", printed, re.MULTILINE)
    assert re.search(r"^skipped +two: there is no disk \(", printed, re.MULTILINE)


def test_a_watcher_among_hostile_events_ends_with_the_truth_and_acted_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    events = "clock,killed,link,reloaded,root-away"
    options = f"--minutes 0 --pictures 40 --hold 1.0 --idle 0 --events {events}".split()
    with pytest.raises(SystemExit) as ended:
        watch_hostile.main(options)
    printed = capsys.readouterr().out
    assert ended.value.code == 0, printed
    assert "1 clock, 1 killed, 1 link, 1 reloaded, 1 root-away" in printed
    assert printed.endswith("equal to a fresh scan, and every act was done once\n")


def test_an_act_that_is_missing_or_done_twice_is_found(tmp_path: Path) -> None:
    plan = watch_soak.Plan(0, 0, 0, 0, 0, 10, 1, 10, broken=False)
    run = watch_hostile.Hostile(str(tmp_path), plan, 0.0)
    record = {"event": "new", "path": "/a", "sha256": "1", "decision": "nsfw", "status": "scanned"}
    run.earlier.append(Line(0.0, record))
    run.view.take(run.earlier[0])
    assert list(run.not_acted()) == ["/a"]
    run.earlier += [Line(1.0, {"event": "acted", "path": "/a"})] * 2
    assert run.not_acted() == {}
    assert run.excess() == {"/a": 1}


def test_what_there_is_to_see_of_a_difference_is_shown(tmp_path: Path) -> None:
    plan = watch_soak.Plan(0, 0, 0, 0, 0, 10, 1, 10, broken=False)
    run = watch_hostile.Hostile(str(tmp_path), plan, 0.0)
    run.journal.note("killed, of process 7")
    run._tree.change(5)
    path = next(iter(run._tree.files))
    folder, name = os.path.split(path)
    run._tree._change_folder(folder, f"{folder} 2")
    moved = os.path.join(f"{folder} 2", name)
    run.earlier.append(Line(1.0, {"event": "moved", "from": path, "path": moved, "sha256": "12"}))
    run.look_into([moved])
    text = "\n".join(run.evidence)
    assert "killed, of process 7" in text
    assert f"about {moved}:" in text
    assert f"done: {folder} became {folder} 2" in text
    assert f"told: event moved, from {path}, path {moved}, sha256 12" in text
    assert "in the cache: unable to open database file" in text
    run.look_into([])
    assert "\n".join(run.evidence) == text, "only the first time"


def test_what_a_degraded_watcher_may_forget_is_not_held_against_it(tmp_path: Path) -> None:
    plan = watch_soak.Plan(0, 0, 0, 0, 0, 10, 1, 10, broken=False)
    run = watch_hostile.Hostile(str(tmp_path), plan, 0.0)
    said = ["nsfwscan: degraded: the cache /c cannot be used", "a word"]
    lines = [Line(0.0, {"event": "new", "path": "/a", "sha256": "1"})]
    run._watch = cast(Watched, SimpleNamespace(said=said, lines=lines))
    run._note_degraded()
    assert run.unsure == {"/a"}
    assert run.unsure_acts == {}
    run.unsure.clear()
    said.append("no longer so: the cache /c cannot be used")
    run._note_degraded()
    assert run.unsure == set()
