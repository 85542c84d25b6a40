"""Rules and the actor: who gets acted on, what is done, and when it stops to ask."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import quarantine_worker as worker
from quarantine_worker import actor, scanned

from nsfwscan.actions import limit as limit_module
from nsfwscan.actions import moves, notify
from nsfwscan.actions.limit import Limit
from nsfwscan.actions.quarantine.held import Quarantines
from nsfwscan.actions.rules import Rule, TagKind, for_picture, load_rules, rule_of
from nsfwscan.values.actions import Act, ActionName, Outcome
from nsfwscan.values.errors import ConfigError, UsageError
from nsfwscan.values.results import Decision, Failed, FailReason, ScanResult, Skipped, SkipReason

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="paths and modes")


@pytest.fixture
def q(tmp_path: Path) -> Path:
    return tmp_path / "q"


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "pictures" / "caf\udce9 -rf.jpg"
    path.parent.mkdir()
    path.write_bytes(b"a picture")
    return path


def yes(_question: str) -> bool:
    return True


def no(_question: str) -> bool:
    return False


def act_on(q: Path, results: list[ScanResult], *rules: Rule, **options: Any) -> list[Act]:
    confirm = options.pop("confirm", no)
    among = options.pop("among", None)
    mover = actor(q, *rules, **options)
    for result in results:
        mover.consider(result)
    return list(mover.carry_out(confirm, among=among))


def one(q: Path, picture: Path, rule: Rule, **options: Any) -> Act:
    (act,) = act_on(q, [scanned(picture)], rule, **options)
    return act


# Rules


def test_rules_of_a_configuration() -> None:
    rules = load_rules(
        [
            {"action": "quarantine", "folder": "/tmp/x"},
            {"decision": ["nsfw", "review"], "action": "copy", "to": "/tmp/y"},
            {"action": "command", "command": ["logger", "{path}"], "time-limit": 5},
            {"decision": "review", "action": "tag", "tag": "xattr"},
        ],
        "c.toml",
    )
    assert rules == (
        Rule(ActionName.QUARANTINE, folder="/tmp/x"),
        Rule(ActionName.COPY, frozenset({Decision.NSFW, Decision.REVIEW}), to="/tmp/y"),
        Rule(ActionName.COMMAND, command=("logger", "{path}"), time_limit_s=5),
        Rule(ActionName.TAG, frozenset({Decision.REVIEW}), tag=TagKind.XATTR),
    )


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ({"action": "burn"}, 'action = "burn": unknown action'),
        ({"action": ["quarantine"]}, "unknown action"),
        ({}, "has no action"),
        ({"action": "trash", "folders": "x"}, "unknown key 'folders'"),
        ({"action": "trash", "decision": "safe"}, 'decision = "safe": not possible in a rule'),
        ({"action": "trash", "decision": []}, "not possible in a rule"),
        ({"action": "trash", "folder": 7}, "folder = 7: must be the path of a folder"),
        ({"action": "trash", "folder": ""}, "must be the path of a folder"),
        ({"action": "trash", "folder": "a\0b"}, "must be the path of a folder"),
        ({"action": "copy", "to": "a\0b"}, "must be the path of a folder"),
        ({"action": "command", "command": ["x", "a\0b"]}, "must be a list of words"),
        ({"action": "trash", "to": "x"}, 'to = "x": trash does not take it'),
        ({"action": "copy"}, "copy needs to"),
        ({"action": "command"}, "command needs command"),
        ({"action": "command", "command": "rm -rf"}, "must be a list of words"),
        ({"action": "command", "command": []}, "must be a list of words"),
        ({"action": "command", "command": ["x"], "time-limit": 0}, "a number of seconds above 0"),
        (
            {"action": "command", "command": ["x"], "time-limit": True},
            "a number of seconds above 0",
        ),
        ({"action": "tag", "tag": "exif"}, "unknown kind of tag"),
    ],
)
def test_a_mistake_in_a_rule_names_the_rule_and_the_key(
    table: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_rules([{"action": "quarantine"}, table], "c.toml")
    assert str(caught.value).startswith("c.toml: [[rule]] 2")
    assert problem in str(caught.value)
    assert caught.value.hint


def test_one_pair_of_brackets_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match="not a list"):
        load_rules({"action": "quarantine"}, "c.toml")


@pytest.mark.parametrize(
    ("option", "rule"),
    [
        ("quarantine", Rule(ActionName.QUARANTINE)),
        ("copy=/tmp/a=b", Rule(ActionName.COPY, to="/tmp/a=b")),
        ("tag", Rule(ActionName.TAG)),
        ("tag=xattr", Rule(ActionName.TAG, tag=TagKind.XATTR)),
        ("command=a 'b c' {path}", Rule(ActionName.COMMAND, command=("a", "b c", "{path}"))),
    ],
)
def test_actions_of_the_command_line(option: str, rule: Rule) -> None:
    assert rule_of(option) == rule


@pytest.mark.parametrize(
    "option",
    [
        "",
        "burn",
        "quarantine=x",
        "copy",
        "copy=",
        "command",
        "command='",
        "tag=exif",
        "copy=a\0b",
        "command=x a\0b",
    ],
)
def test_a_mistake_in_an_action_is_explained(option: str) -> None:
    with pytest.raises(UsageError) as caught:
        rule_of(option)
    assert caught.value.hint or "No closing quotation" in str(caught.value)


def test_a_relative_folder_needs_a_current_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def getcwd() -> str:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    monkeypatch.setattr(os, "getcwd", getcwd)
    with pytest.raises(UsageError, match="the current folder no longer exists"):
        rule_of("copy=flagged")


def test_a_folder_means_what_is_below_it_and_moves_come_last(tmp_path: Path) -> None:
    inside = Rule(ActionName.QUARANTINE, folder="/a/b")
    trash_it = Rule(ActionName.TRASH)
    run = Rule(ActionName.COMMAND, command=("x",))
    tag = Rule(ActionName.TAG)
    rules = [inside, trash_it, run, tag, tag]
    assert for_picture(rules, "/a/b/c.jpg", Decision.NSFW) == [tag, run, inside]
    assert for_picture(rules, "/a/bc.jpg", Decision.NSFW) == [tag, run, trash_it]
    assert for_picture(rules, "/a/b/c.jpg", Decision.REVIEW) == []


# Who gets acted on


def test_without_a_score_nothing_moves(q: Path, picture: Path) -> None:
    warnings: list[str] = []
    digest = hashlib.sha256(b"a picture").digest()
    path = str(picture)
    results: list[ScanResult] = [Failed(path, reason, "", digest) for reason in FailReason]
    results += [Skipped(path, reason) for reason in SkipReason]
    results += [scanned(path, digest, 0.3), scanned(path, digest, 0.6)]
    for score in (float("nan"), float("inf"), -1.0, 2.0):
        broken = scanned(path, digest)
        results.append(
            broken.__class__(
                path, digest, broken.facts, broken.scores,
                broken.verdict._replace(score=score), broken.origin,
            )
        )  # fmt: skip
    assert act_on(q, results, Rule(ActionName.QUARANTINE), warn=warnings.append) == []
    assert picture.read_bytes() == b"a picture"
    assert len(warnings) == 4
    assert not q.exists()


def test_a_rule_for_review_moves_what_is_to_review(q: Path, picture: Path) -> None:
    rule = Rule(ActionName.QUARANTINE, frozenset({Decision.REVIEW}))
    assert act_on(q, [scanned(picture)], rule) == []
    (act,) = act_on(q, [scanned(picture, score=0.6)], rule)
    assert act.outcome == "done"


@pytest.mark.parametrize(
    "case", ["plain", "restored", "changed", "gone", "link", "no place", "another's notes"]
)
def test_a_dry_run_says_what_the_run_then_does(
    q: Path, picture: Path, tmp_path: Path, case: str
) -> None:
    rules = [Rule(ActionName.QUARANTINE), Rule(ActionName.TAG)]
    if case == "restored":
        worker.move_in(q, [picture])
        worker.restore_all(q)
    result = scanned(picture)
    match case:
        case "changed":
            picture.write_bytes(b"another one")
        case "gone":
            picture.unlink()
        case "link":
            picture.rename(tmp_path / "away")
            picture.symlink_to(tmp_path / "away")
        case "no place":
            q.write_text("in the way")
        case "another's notes":
            Path(f"{picture}.xmp").write_bytes(b"<x:xmpmeta/>")
    foreseen = act_on(q, [result], *rules, dry_run=True, warn=lambda _sentence: None)
    acts = act_on(q, [result], *rules, warn=lambda _sentence: None)
    as_run = [Outcome.DONE if one.outcome is Outcome.WOULD else one.outcome for one in foreseen]
    assert as_run == [one.outcome for one in acts]
    for one, other in zip(foreseen, acts, strict=True):
        if one.outcome is Outcome.LEFT:
            assert one.detail == other.detail


def test_the_question_counts_only_what_would_be_moved(tmp_path: Path, q: Path) -> None:
    results = results_of(tmp_path / "p", 15, 100)
    worker.move_in(q, [one.path for one in results[:5]])
    worker.restore_all(q)
    asked: list[str] = []

    def confirm(question: str) -> bool:
        asked.append(question)
        return False

    limit = Limit(files=7)
    acts = act_on(q, results, Rule(ActionName.QUARANTINE), limit=limit, confirm=confirm)
    assert "would move 10 of 115 pictures" in asked[0]
    assert {act.outcome for act in acts} == {Outcome.HELD_BACK}
    acts = act_on(q, results[:9], Rule(ActionName.QUARANTINE), limit=limit, confirm=confirm)
    assert len(asked) == 1  # four are not more than seven
    assert [act.outcome.value for act in acts] == ["left"] * 5 + ["done"] * 4


def test_a_picture_that_is_considered_twice_is_acted_on_once(q: Path, picture: Path) -> None:
    (act,) = act_on(q, [scanned(picture)] * 2, Rule(ActionName.QUARANTINE))
    assert act.outcome == "done"


@pytest.mark.parametrize("action", [ActionName.QUARANTINE, ActionName.TRASH])
def test_our_sidecar_goes_with_its_picture_and_anothers_stays_and_is_named(
    q: Path, picture: Path, monkeypatch: pytest.MonkeyPatch, action: ActionName
) -> None:
    import send2trash

    monkeypatch.setattr(send2trash, "send2trash", os.unlink)
    act_on(q, [scanned(picture)], Rule(ActionName.TAG))
    sidecar = Path(f"{picture}.xmp")
    assert sidecar.exists()
    act = one(q, picture, Rule(action))
    assert (act.outcome, act.detail, sidecar.exists()) == ("done", "", False)
    picture.write_bytes(b"another")
    sidecar.write_bytes(b"<x:xmpmeta/>")
    act = one(q, picture, Rule(action))
    assert (act.outcome, sidecar.exists()) == ("done", True)
    assert act.detail == f"left in place: {sidecar}, which belongs to another program"
    assert os.listdir(picture.parent) == [sidecar.name]


def test_a_copy_whose_name_is_taken_each_time_fails(
    q: Path, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def taken(source: str, target: str, *, private: bool = False) -> None:
        raise FileExistsError(errno.EEXIST, "File exists", target)

    monkeypatch.setattr(moves, "rename", taken)
    act = one(q, picture, Rule(ActionName.COPY, to=str(tmp_path / "copies")))
    assert (act.outcome, os.listdir(tmp_path / "copies")) == ("failed", [])


def test_a_dry_run_touches_nothing(q: Path, picture: Path) -> None:
    rules = [
        Rule(ActionName.QUARANTINE),
        Rule(ActionName.TAG),
        Rule(ActionName.COPY, to=str(q)),
        Rule(ActionName.COMMAND, command=("touch", str(q))),
        Rule(ActionName.NOTIFY),
    ]
    acts = act_on(q, [scanned(picture)], *rules, dry_run=True, limit=Limit(0))
    assert {act.outcome for act in acts} == {Outcome.WOULD}
    assert len(acts) == 5
    assert os.listdir(picture.parent) == [picture.name]
    assert not q.exists()


def test_relative_paths_and_links_in_folders_lead_to_the_picture(
    q: Path, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(picture.parent.parent)
    Path("way").symlink_to("pictures")
    rule = Rule(ActionName.QUARANTINE, folder=str(picture.parent))
    (act,) = act_on(q, [scanned(Path("way") / picture.name)], rule)
    assert (act.outcome, act.path) == ("done", f"way/{picture.name}")


# The limit


def results_of(folder: Path, flagged: int, safe: int) -> list[ScanResult]:
    folder.mkdir(exist_ok=True)
    found: list[ScanResult] = []
    for n in range(flagged):
        (folder / f"{n}.jpg").write_bytes(b"%d" % n)
        found.append(scanned(folder / f"{n}.jpg"))
    return found + [scanned(folder / f"s{n}.jpg", b"", 0.1) for n in range(safe)]


@pytest.mark.parametrize(
    ("flagged", "safe", "stops"),
    [
        (200, 4000, False),
        (201, 9000, True),
        (11, 209, False),
        (12, 209, True),
        (10, 0, False),
        (11, 0, True),
    ],
)
def test_a_run_that_would_move_more_than_5_percent_or_200_files_stops_and_asks(
    tmp_path: Path, q: Path, flagged: int, safe: int, stops: bool
) -> None:
    asked: list[str] = []

    def confirm(question: str) -> bool:
        asked.append(question)
        return False

    results = results_of(tmp_path / "p", flagged, safe)
    acts = act_on(
        q, results, Rule(ActionName.QUARANTINE), Rule(ActionName.TAG), limit=Limit(),
        confirm=confirm,
    )  # fmt: skip
    assert bool(asked) == stops
    wanted = {Outcome.HELD_BACK} if stops else {Outcome.DONE}
    assert {act.outcome for act in acts} == wanted
    assert len(acts) == 2 * flagged
    left = len([name for name in os.listdir(tmp_path / "p") if name.endswith(".jpg")])
    assert left == (flagged if stops else 0)
    if stops:
        assert f"{flagged} of {flagged + safe:,} pictures" in asked[0]
        acts = act_on(q, results, Rule(ActionName.QUARANTINE), limit=Limit(), confirm=yes)
        assert {act.outcome for act in acts} == {Outcome.DONE}


def test_safe_pictures_that_were_only_counted_count(tmp_path: Path, q: Path) -> None:
    results = results_of(tmp_path / "p", 5, 0)
    acts = act_on(q, results, Rule(ActionName.QUARANTINE), limit=Limit(), among=100)
    assert {act.outcome for act in acts} == {Outcome.DONE}


def test_what_moves_nothing_has_no_limit(tmp_path: Path, q: Path) -> None:
    acts = act_on(q, results_of(tmp_path / "p", 3, 0), Rule(ActionName.TAG), limit=Limit())
    assert {act.outcome for act in acts} == {Outcome.DONE}


def test_a_watcher_counts_only_what_it_moved_itself(tmp_path: Path, q: Path) -> None:
    results = results_of(tmp_path / "p", 20, 0)
    worker.move_in(q, [one.path for one in results[:10]])  # by a scan
    limit = Limit(files=3, share=0.0, least=3, window_s=86_400)
    asked: list[str] = []

    def confirm(question: str) -> bool:
        asked.append(question)
        return False

    mover = actor(q, limit=limit)
    for result in results[10:12]:
        mover.consider(result)
    assert [act.outcome.value for act in mover.carry_out(confirm, among=100)] == ["done"] * 2
    for result in results[12:14]:
        mover.consider(result)
    held = list(mover.carry_out(confirm, among=100))
    assert [act.outcome.value for act in held] == ["held-back"] * 2
    assert len(asked) == 1
    assert asked[0] == (
        "This would move 2, after 2 already: 4 of 100 pictures (4.0%) within 24 hours. "
        "The limit is 3 or 0 % of them."
    )
    assert all(asked[0] not in act.detail for act in held)  # said once and not with each
    mover.consider(results[14])  # what was held back was not moved, and does not count
    assert [act.outcome.value for act in mover.carry_out(confirm, among=100)] == ["done"]


def test_a_quarantine_that_cannot_be_read_does_not_end_a_watcher(tmp_path: Path, q: Path) -> None:
    results = results_of(tmp_path / "p", 1, 0)
    worker.move_in(q, [results[0].path])
    journal = Path(worker.vault_in(q).journal.path)
    journal.unlink()
    journal.mkdir()
    warnings: list[str] = []
    (tmp_path / "p" / "0.jpg").write_bytes(b"0")
    limit = Limit(window_s=86_400)
    (act,) = act_on(q, results, limit=limit, warn=warnings.append)
    assert act.outcome == "failed"
    assert "do not count towards the limit" in warnings[0]


def test_a_watcher_has_a_limit_for_a_day_that_outlives_a_restart(
    tmp_path: Path, q: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = Limit(files=3, share=0.0, least=3, window_s=86_400)
    results = results_of(tmp_path / "p", 5, 100)
    mover = actor(q, limit=limit)

    def outcome(result: ScanResult) -> str:
        mover.consider(result)
        (act,) = mover.carry_out(no, among=1000)
        return act.outcome.value

    assert [outcome(result) for result in results[:3]] == ["done"] * 3
    assert outcome(results[3]) == "held-back"
    mover = actor(q, limit=limit)
    assert outcome(results[3]) == "held-back"
    elapsed = limit_module._elapsed()
    monkeypatch.setattr(limit_module, "_elapsed", lambda: elapsed + 90_000)
    assert outcome(results[3]) == "done"


YEAR_S = 365 * 86_400


@pytest.mark.parametrize("wrong_by", [YEAR_S, -YEAR_S, 2 * 86_400])
def test_a_clock_that_was_wrong_does_not_hold_a_watcher_back_once_it_is_right(
    tmp_path: Path, q: Path, monkeypatch: pytest.MonkeyPatch, wrong_by: int
) -> None:
    limit = Limit(files=3, share=0.0, least=3, window_s=86_400)
    results = results_of(tmp_path / "p", 5, 100)
    clock = time.time
    monkeypatch.setattr(time, "time", lambda: clock() + wrong_by)
    assert [one.outcome for one in act_on(q, results[:3], limit=limit)] == ["done"] * 3
    monkeypatch.setattr(time, "time", clock)
    assert [one.outcome for one in act_on(q, results[3:], limit=limit)] == ["done"] * 2


@pytest.mark.parametrize("jump_s", [YEAR_S, -YEAR_S])
def test_a_clock_that_jumps_neither_opens_nor_closes_the_limit_of_a_running_watcher(
    tmp_path: Path, q: Path, monkeypatch: pytest.MonkeyPatch, jump_s: int
) -> None:
    mover = actor(q, limit=Limit(files=3, share=0.0, least=3, window_s=86_400))
    results = results_of(tmp_path / "p", 5, 100)

    def outcome(result: ScanResult) -> str:
        mover.consider(result)
        (act,) = mover.carry_out(no, among=1000)
        return act.outcome.value

    assert [outcome(result) for result in results[:3]] == ["done"] * 3
    clock = time.time
    monkeypatch.setattr(time, "time", lambda: clock() + jump_s)
    assert outcome(results[3]) == "held-back"
    elapsed = limit_module._elapsed
    monkeypatch.setattr(limit_module, "_elapsed", lambda: elapsed() + 86_401)
    assert [outcome(result) for result in results[3:5]] == ["done"] * 2


def test_one_quarantine_that_cannot_be_read_does_not_keep_a_watcher_from_acting_elsewhere(
    tmp_path: Path, q: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = results_of(tmp_path / "p", 2, 0)
    broken = tmp_path / "broken"
    broken.mkdir()
    act_on(broken, results[:1])
    vault = worker.vault_in(broken)
    Path(vault.journal.path).unlink()
    Path(vault.journal.path).mkdir()
    monkeypatch.setattr(Quarantines, "existing", lambda _self: [vault])
    warnings: list[str] = []
    (act,) = act_on(q, results[1:], limit=Limit(window_s=86_400), warn=warnings.append)
    assert act.outcome == "done"
    assert "do not count towards the limit" in warnings[0]


# Copies


def test_a_copy_has_the_bytes_times_and_attributes_and_overwrites_nothing(
    tmp_path: Path, q: Path, picture: Path
) -> None:
    target = tmp_path / "flagged" / "deep"
    rule = Rule(ActionName.COPY, to=str(target))
    os.setxattr(picture, "user.note", b"x")
    before = worker.facts(picture)
    act = one(q, picture, rule)
    assert (act.outcome, act.target) == ("done", str(target / picture.name))
    assert worker.facts(target / picture.name) == before == worker.facts(picture)
    assert one(q, picture, rule).detail == "it was already there"
    picture.write_bytes(b"another")
    act = one(q, picture, rule)
    assert act.target == str(target / picture.name).replace(".jpg", " (2).jpg")
    assert {path.read_bytes() for path in target.iterdir()} == {b"a picture", b"another"}
    assert one(q, target / picture.name, rule).outcome == "left"


def test_content_that_is_in_the_folder_is_not_copied_again_whatever_its_name(
    q: Path, tmp_path: Path
) -> None:
    target = tmp_path / "copies"
    rule = Rule(ActionName.COPY, to=str(target))
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"the same")
    (tmp_path / "c.jpg").write_bytes(b"as long!")
    for _night in range(3):
        for name in ("a.jpg", "b.jpg", "c.jpg"):
            assert one(q, tmp_path / name, rule).outcome == "done"
    assert {path.name for path in target.iterdir()} == {"a.jpg", "c.jpg"}


def test_a_copy_with_a_long_name_that_is_taken_gets_a_shorter_one(q: Path, tmp_path: Path) -> None:
    target, path = tmp_path / "copies", tmp_path / f"{'é' * 125}.jpg"
    target.mkdir()
    (target / path.name).write_bytes(b"another")
    path.write_bytes(b"a picture")
    act = one(q, path, Rule(ActionName.COPY, to=str(target)))
    assert (act.outcome, Path(act.target or "").name) == ("done", f"{'é' * 123} (2).jpg")
    assert Path(act.target or "").read_bytes() == b"a picture"


def test_a_copy_that_cannot_be_made_fails(q: Path, picture: Path) -> None:
    act = one(q, picture, Rule(ActionName.COPY, to=str(picture / "no folder")))
    assert (act.outcome, act.detail) == ("failed", "Not a directory")


def test_a_copy_whose_folder_is_taken_away_has_failed_and_the_picture_is_not_called_gone(
    q: Path, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "makedirs", lambda *_args, **_options: None)
    act = one(q, picture, Rule(ActionName.COPY, to=str(tmp_path / "no folder")))
    assert (act.outcome, act.detail) == ("failed", "No such file or directory")


# Tags


def test_a_sidecar_says_what_was_found_and_is_brought_up_to_date(q: Path, picture: Path) -> None:
    rule = Rule(ActionName.TAG, frozenset({Decision.NSFW, Decision.REVIEW}))
    before = worker.facts(picture)
    act = one(q, picture, rule)
    sidecar = Path(f"{picture}.xmp")
    assert (act.outcome, act.target) == ("done", str(sidecar))
    assert worker.facts(picture) == before
    (description,) = ET.parse(sidecar).iter(
        "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description"
    )
    space = "{https://github.com/nsfwscan/nsfwscan/ns/1.0/}"
    assert description.get(f"{space}decision") == "nsfw"
    assert description.get(f"{space}score") == "0.9700"
    assert [item.text for item in description.iter() if item.tag.endswith("}li")] == ["nsfw"]
    assert one(q, picture, rule).detail == "it was already there"
    (act,) = act_on(q, [scanned(picture, score=0.6)], rule)
    assert act.outcome == "done"
    assert b'decision="review"' in sidecar.read_bytes()
    assert sorted(os.listdir(picture.parent)) == sorted([picture.name, sidecar.name])


@pytest.mark.parametrize("content", [b"", b"<x:xmpmeta/>", None])
def test_another_programs_sidecar_is_left_alone(
    q: Path, picture: Path, content: bytes | None
) -> None:
    sidecar = Path(f"{picture}.xmp")
    if content is None:  # ours, to which darktable has added something
        one(q, picture, Rule(ActionName.TAG))
        content = sidecar.read_bytes().replace(b"</rdf:Bag>", b"<rdf:li>tree</rdf:li></rdf:Bag>")
    sidecar.write_bytes(content)
    act = one(q, picture, Rule(ActionName.TAG))
    assert act.outcome == "left"
    assert "another program" in act.detail
    assert sidecar.read_bytes() == content
    assert len(os.listdir(picture.parent)) == 2


def test_extended_attributes(q: Path, picture: Path) -> None:
    act = one(q, picture, Rule(ActionName.TAG, tag=TagKind.XATTR))
    assert act.outcome == "done"
    names = ("decision", "score", "model")
    values = [os.getxattr(picture, f"user.nsfwscan.{name}") for name in names]
    assert values == [b"nsfw", b"0.9700", b"tiny-1"]
    assert picture.read_bytes() == b"a picture"


# Commands


def command(*words: str, time_limit_s: float = 60) -> Rule:
    return Rule(ActionName.COMMAND, command=words, time_limit_s=time_limit_s)


def test_a_command_gets_the_record_and_its_arguments_as_they_are(
    q: Path, picture: Path, tmp_path: Path
) -> None:
    script = (
        "import json, sys; json.dump([sys.argv[2:], json.load(sys.stdin)], open(sys.argv[1], 'w'));"
        "print('this goes nowhere')"
    )
    said = tmp_path / "said"
    rule = command(sys.executable, "-c", script, str(said), "$(touch x)", "at={path}")
    act = one(q, picture, rule)
    assert (act.outcome, act.detail) == ("done", "")
    arguments, record = json.loads(said.read_text())
    assert arguments == ["$(touch x)", f"at={picture}"]
    assert record == {"path": str(picture)}


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("/no/such/program",), "/no/such/program cannot be started: No such file or directory"),
        (("a\0b",), "cannot be started: embedded null byte"),
        (("false",), "false ended with exit code 1"),
        (("sh", "-c", "echo one >&2; echo two >&2; exit 3"), "ended with exit code 3: two"),
        (("sh", "-c", "kill -TERM $$"), "ended with signal 15"),
    ],
)
def test_a_command_that_fails_is_told(
    q: Path, picture: Path, words: tuple[str, ...], problem: str
) -> None:
    act = one(q, picture, command(*words))
    assert act.outcome == "failed"
    assert problem in act.detail


def test_a_command_that_takes_too_long_is_ended_with_what_it_started(
    q: Path, picture: Path, tmp_path: Path
) -> None:
    mark = tmp_path / "late"
    begun = time.monotonic()
    act = one(
        q, picture, command("sh", "-c", f"(sleep 1; touch {mark}) & sleep 60", time_limit_s=0.3)
    )
    assert (act.outcome, act.detail) == ("failed", "sh was stopped after 0.3 seconds")
    assert time.monotonic() - begun < 20
    time.sleep(1.2)
    assert not mark.exists()


def test_a_command_that_takes_the_picture_away_leaves_nothing_to_move(
    q: Path, picture: Path
) -> None:
    acts = act_on(q, [scanned(picture)], command("rm", "{path}"), Rule(ActionName.QUARANTINE))
    assert [(act.action.value, act.outcome.value) for act in acts] == [
        ("command", "done"),
        ("quarantine", "left"),
    ]


def test_no_action_is_taken_on_a_file_that_was_replaced(q: Path, picture: Path) -> None:
    result = scanned(picture)
    picture.write_bytes(b"other")
    rules = [command("rm", "{path}"), Rule(ActionName.TAG), Rule(ActionName.TRASH)]
    acts = act_on(q, [result], *rules)
    assert {act.outcome.value for act in acts} == {"left"}
    assert os.listdir(picture.parent) == [picture.name]


# Trash and notifications


def test_trash(q: Path, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    import send2trash.plat_other as implementation

    monkeypatch.setattr(implementation, "HOMETRASH_B", os.fsencode(tmp_path / "data" / "Trash"))
    monkeypatch.setattr("send2trash.send2trash", implementation.send2trash)
    act = one(q, picture, Rule(ActionName.TRASH))
    assert act.outcome == "done"
    assert not picture.exists()
    (trashed,) = (tmp_path / "data" / "Trash" / "files").iterdir()
    assert trashed.read_bytes() == b"a picture"


def test_a_trash_that_takes_nothing_is_told(
    q: Path, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_path: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("send2trash.send2trash", full)
    act = one(q, picture, Rule(ActionName.TRASH))
    assert act.outcome == "failed"
    assert act.detail == "it cannot be moved to the trash: No space left on device"
    assert picture.exists()


@pytest.fixture
def desktop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install a `notify-send` that writes down what it is given."""
    program = tmp_path / "bin" / "notify-send"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nprintf "%s|" "$@" >> {tmp_path}/shown\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("DISPLAY", ":99")
    return program


@pytest.mark.skipif(sys.platform != "linux", reason="notify-send")
def test_one_notification_for_all_that_names_none(tmp_path: Path, q: Path, desktop: Path) -> None:
    acts = act_on(q, results_of(tmp_path / "p", 3, 0), Rule(ActionName.NOTIFY))
    assert [act.outcome.value for act in acts] == ["done"] * 3
    shown = (tmp_path / "shown").read_text()
    assert shown == "--app-name=nsfwscan|--|nsfwscan|3 pictures were flagged.|"
    desktop.write_text("#!/bin/sh\necho no bus >&2\nexit 1\n")
    acts = act_on(q, results_of(tmp_path / "p", 1, 0), Rule(ActionName.NOTIFY))
    assert [act.outcome.value for act in acts] == ["failed"]
    assert acts[0].detail.endswith("notify-send: no bus")


@pytest.fixture
def clickable(desktop: Path, tmp_path: Path) -> Iterator[Path]:
    """Let `notify-send` wait for a click, which comes when the file that is returned exists."""
    desktop.write_text(
        "#!/bin/sh\n"
        'if [ "$1" = --help ]; then echo "  -A, --action=[NAME=]Text..."; exit; fi\n'
        f'printf "%s|" "$@" >> {tmp_path}/shown\n'
        f"until [ -e {tmp_path}/clicked ]; do sleep 0.05; done; cat {tmp_path}/clicked\n"
    )
    yield tmp_path / "clicked"
    (tmp_path / "clicked").touch()
    for one in notify._waiting:
        one.communicate(timeout=20)
    notify._waiting.clear()


@pytest.mark.skipif(sys.platform != "linux", reason="notify-send")
@pytest.mark.parametrize("chosen", ["default", "look", ""])
def test_a_click_on_a_notification_opens_the_page_to_look(
    tmp_path: Path, q: Path, clickable: Path, chosen: str
) -> None:
    look = ("/bin/sh", "-c", 'echo "$@" > "$0"', f"{tmp_path}/it's open", "a b", "$HOME")
    acts = act_on(q, results_of(tmp_path / "p", 3, 0), Rule(ActionName.NOTIFY), look=look)
    assert [act.outcome.value for act in acts] == ["done"] * 3
    assert (tmp_path / "shown").read_text() == (
        "--app-name=nsfwscan|--action=default=Open|--action=look=Look at them|--|nsfwscan|"
        "3 pictures were flagged. Look at them: nsfwscan review|"
    )
    assert not (tmp_path / "it's open").exists()
    clickable.write_text(f"{chosen}\n" if chosen else "")
    (waiting,) = notify._waiting
    assert waiting.wait(timeout=20) == 0
    assert (tmp_path / "it's open").exists() == bool(chosen)
    if chosen:
        assert (tmp_path / "it's open").read_text() == "a b $HOME\n"


@pytest.mark.skipif(sys.platform != "linux", reason="notify-send")
def test_a_notification_without_clicks_still_names_the_command(
    tmp_path: Path, q: Path, desktop: Path
) -> None:
    acts = act_on(q, results_of(tmp_path / "p", 1, 0), Rule(ActionName.NOTIFY), look=("look",))
    assert [act.outcome.value for act in acts] == ["done"]
    shown = (tmp_path / "shown").read_text()
    assert shown.endswith("|nsfwscan|1 picture was flagged. Look at them: nsfwscan review|")
    assert "--action" not in shown


@pytest.mark.skipif(sys.platform != "linux", reason="notify-send")
def test_only_a_few_notifications_wait_for_clicks(
    clickable: Path, desktop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "_MOST_WAITING", 1)
    assert notify._takes_clicks(str(desktop))
    assert notify.show("a", "b", look=("true",))[0] is Outcome.DONE
    assert not notify._takes_clicks(str(desktop))
    clickable.touch()
    assert notify._waiting[0].wait(timeout=20) == 0
    assert notify._takes_clicks(str(desktop))
    assert notify._waiting == []


@pytest.mark.skipif(sys.platform != "linux", reason="notify-send")
def test_a_notification_that_could_be_clicked_and_fails_is_told(desktop: Path) -> None:
    desktop.write_text(
        '#!/bin/sh\nif [ "$1" = --help ]; then echo --action; exit; fi\necho no bus >&2; exit 1\n'
    )
    outcome, detail = notify.show("a", "b", look=("true",))
    assert outcome is Outcome.FAILED
    assert detail.endswith("notify-send: no bus")


def test_a_service_opens_the_page_outside_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("INVOCATION_ID", raising=False)
    assert notify._outside_a_service() == []
    monkeypatch.setenv("INVOCATION_ID", "1")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert notify._outside_a_service() == []
    (tmp_path / "systemd-run").write_text("#!/bin/sh\n")
    (tmp_path / "systemd-run").chmod(0o755)
    monkeypatch.setenv("NSFWSCAN_HOME", "/my home")
    before = notify._outside_a_service()
    assert before[:4] == [str(tmp_path / "systemd-run"), "--user", "--collect", "--quiet"]
    assert "--setenv=NSFWSCAN_HOME=/my home" in before


def test_without_a_desktop_there_is_no_notification(
    tmp_path: Path, q: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "DBUS_SESSION_BUS_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    said: list[str] = []
    acts = act_on(q, results_of(tmp_path / "p", 2, 0), Rule(ActionName.NOTIFY), say=said.append)
    assert [act.outcome.value for act in acts] == ["left"] * 2
    assert said == ["No notification: there is no desktop to show it on."]
    assert notify.show("", "")[0] is Outcome.LEFT


def test_a_picture_is_left_alone_where_a_link_led_before_it_was_turned(
    tmp_path: Path, q: Path
) -> None:
    link, old, new = tmp_path / "link", tmp_path / "old", tmp_path / "new"
    for folder in (old, new):
        folder.mkdir()
        (folder / "a.jpg").write_bytes(b"a picture")
    link.symlink_to(old)
    mover = actor(q)
    mover.consider(scanned(link / "a.jpg"))
    link.unlink()
    link.symlink_to(new)
    (act,) = mover.carry_out(no, among=1000)
    assert (act.outcome, "leads elsewhere" in act.detail) == ("left", True)
    mover.consider(scanned(link / "a.jpg"))
    (act,) = mover.carry_out(no, among=1000)
    assert act.outcome == "done"
    assert (old / "a.jpg").exists()
    assert not (new / "a.jpg").exists()
