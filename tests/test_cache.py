from __future__ import annotations

import math
import os
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from cache_facts import (
    A_FOLDER,
    SCORER,
    check_view,
    fill,
    folders,
    key_of,
    known_contents,
    known_numbers,
    outcome_of,
    path_of,
    sha256_of,
    write_numbers,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from sizes import trials

from nsfwscan.cache import database, rows, upkeep
from nsfwscan.cache.cache import Cache
from nsfwscan.cache.rows import FactRow, FileRow, OutcomeRow, PartRow
from nsfwscan.values.errors import CacheUnavailable
from nsfwscan.values.facts import LIKENESS
from nsfwscan.values.file_key import KEY_BYTES, FileKey
from nsfwscan.values.outcome import Scored, Scorer, Unscorable
from nsfwscan.values.place import Part
from nsfwscan.values.results import FailReason, ImageFacts, Scores

OTHER = Scorer("77" * 32, 3)


def fail_on_warning(text: str) -> None:
    raise AssertionError(text)


def open_cache(tmp_path: Path) -> Cache:
    return Cache.open(str(tmp_path / "library.sqlite3"), warn=fail_on_warning)


@pytest.fixture(params=["wal", "delete"])
def mode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    mode: str = request.param
    monkeypatch.setattr(database, "journal_mode", lambda _version: mode)
    return mode


def test_what_was_written_is_known_after_reopening(tmp_path: Path, mode: str) -> None:
    with open_cache(tmp_path) as cache:
        fill(cache, 100, snapshots=False)
        assert cache.stats().journal_mode == mode
    with open_cache(tmp_path) as cache:
        everything = set(range(100))
        assert known_numbers(cache, 100) == everything
        assert known_contents(cache, 100) == everything


def test_a_snapshot_tells_the_same_as_the_rows(tmp_path: Path) -> None:
    with open_cache(tmp_path) as cache:
        fill(cache, 100, snapshots=False)
        for folder in folders(100):
            from_rows = cache.folder(folder, SCORER)
            cache.snapshot([folder], SCORER)
            from_snapshot = cache.folder(folder, SCORER)
            assert (from_rows.stored, from_snapshot.stored) == (False, True)
            assert dict(from_rows) == dict(from_snapshot)
            assert from_rows.names == from_snapshot.names == sorted(from_rows)
            assert from_rows.stats == from_snapshot.stats
            assert from_rows.stats == b"".join(one.key.pack() for one in from_rows.values())
            assert check_view(from_rows) == check_view(from_snapshot)


def test_an_unknown_folder_is_empty_and_leaves_no_trace(tmp_path: Path) -> None:
    with open_cache(tmp_path) as cache:
        view = cache.folder("/nowhere", SCORER)
        assert (len(view), view.names, view.stats, list(view.unsafe)) == (0, [], b"", [])
        assert view.get("x.jpg") is None
        cache.snapshot(["/nowhere"], SCORER)
        assert cache.stats().folders == 0


def test_another_model_or_decoder_knows_the_content_but_no_outcome(tmp_path: Path) -> None:
    with open_cache(tmp_path) as cache:
        fill(cache, 20)
        for stranger in (OTHER, SCORER._replace(decoder=4)):
            view = cache.folder(os.path.dirname(path_of(7)), stranger)
            known = view["7.jpg"]
            assert (known.key, known.sha256, known.outcome) == (key_of(7), sha256_of(7), None)
            assert all(math.isnan(unsafe) for unsafe in view.unsafe)
            assert cache.outcome(sha256_of(7), stranger) is None


def test_a_file_that_changed_replaces_its_row_and_drops_the_snapshot(tmp_path: Path) -> None:
    with open_cache(tmp_path) as cache:
        fill(cache, 20)
        changed = FileRow(path_of(7), key_of(7)._replace(mtime_ns=5), sha256_of(8))
        cache.write([changed], [])
        view = cache.folder(os.path.dirname(path_of(7)), SCORER)
        assert not view.stored
        assert view["7.jpg"][:3] == (changed.key, sha256_of(8), outcome_of(8))


def test_a_failure_that_goes_well_later_is_not_hidden_by_any_snapshot(tmp_path: Path) -> None:
    failed = Unscorable(FailReason.DECODER_TIMEOUT, "no answer")
    well = Scored(ImageFacts("JPEG", 1, 2, 1), Scores((0.25, 0.75), 0.75))
    with open_cache(tmp_path) as cache:
        twins = [FileRow(f"/{folder}/x.jpg", key_of(1), sha256_of(1)) for folder in "ab"]
        cache.write(twins, [OutcomeRow(sha256_of(1), SCORER, failed)])
        for folder in ("/a", "/b"):
            cache.snapshot([folder], SCORER)
            assert cache.folder(folder, SCORER)["x.jpg"].outcome == failed
        cache.write([], [OutcomeRow(sha256_of(1), SCORER, well)])
        for folder in ("/a", "/b"):
            assert cache.folder(folder, SCORER)["x.jpg"].outcome == well


@pytest.mark.parametrize(
    "name",
    [b"new\nline.jpg", b"\xff\xfe invalid.jpg", "ünïcödé 😀.jpg".encode(), b"%s?*'\"\\.jpg", b" "],
)
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
def test_names_need_not_be_text(tmp_path: Path, name: bytes) -> None:
    folder = os.fsdecode(b"/fo\xe4lder\n")
    path = os.path.join(folder, os.fsdecode(name))
    with open_cache(tmp_path) as cache:
        other = FileRow(os.path.join(folder, "a.jpg"), key_of(2), sha256_of(2))
        cache.write([FileRow(path, key_of(1), sha256_of(1)), other], [])
        from_rows = cache.folder(folder, SCORER)
        cache.snapshot([folder], SCORER)
        from_snapshot = cache.folder(folder, SCORER)
        assert from_snapshot.stored
        assert set(from_rows) == set(from_snapshot) == {os.fsdecode(name), "a.jpg"}
        assert from_snapshot[os.fsdecode(name)].sha256 == sha256_of(1)
        assert {row.path for row in cache.export()} == {path, other.path}


def test_a_file_in_the_root_folder(tmp_path: Path) -> None:
    with open_cache(tmp_path) as cache:
        cache.write([FileRow("/x.jpg", key_of(1), sha256_of(1))], [])
        assert list(cache.folder("/", SCORER)) == ["x.jpg"]
        assert [row.path for row in cache.export()] == ["/x.jpg"]


@pytest.mark.parametrize(
    ("key", "same"),
    [
        (FileKey(0, 0, 0, 0), True),
        (FileKey(1, -(10**18), -1, (1 << 64) - 1), True),
        (FileKey(1, 1 << 63, 1, 1 << 100), False),
    ],
)
def test_stat_numbers_of_any_size_are_kept_or_cut(key: FileKey, same: bool) -> None:
    packed = key.pack()
    assert len(packed) == KEY_BYTES
    assert (FileKey.unpack(packed) == key) is same
    assert FileKey.unpack(packed).pack() == packed


def test_file_key_is_what_stat_says(tmp_path: Path) -> None:
    status = os.stat(tmp_path)
    key = FileKey.of(status)
    assert key[:3] == (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    assert key.inode == status.st_ino


def test_outcomes_with_different_numbers_of_labels_fit_one_folder(tmp_path: Path) -> None:
    outcomes = {
        n: Scored(ImageFacts("GIF", 1, 1, 9), Scores(tuple([0.5] * n), 0.5)) for n in (2, 5, 1)
    }
    with open_cache(tmp_path) as cache:
        cache.write(
            [FileRow(f"/a/{n}", key_of(n), sha256_of(n)) for n in outcomes],
            [OutcomeRow(sha256_of(n), SCORER, outcome) for n, outcome in outcomes.items()],
        )
        cache.snapshot(["/a"], SCORER)
        view = cache.folder("/a", SCORER)
        assert {int(name): known.outcome for name, known in view.items()} == outcomes


def test_a_reason_of_a_later_version_is_unknown(tmp_path: Path) -> None:
    assert rows.decode_outcome(b'{"failed":"eaten-by-a-grue","detail":""}') is None
    assert rows.decode_outcome(b'{"skipped":"eaten-by-a-grue","detail":""}') is None


@pytest.mark.parametrize("outcome", [outcome_of(n) for n in (0, 3, 5)])
def test_outcomes_read_back_equal(outcome: Scored | Unscorable) -> None:
    assert rows.decode_outcome(rows.encode_outcome(outcome)) == outcome


def test_forget_drops_files_and_keeps_outcomes(tmp_path: Path) -> None:
    with open_cache(tmp_path) as cache:
        fill(cache, 20)
        folder = os.path.dirname(path_of(0))
        cache.forget([f"{folder}/7.jpg", f"{folder}/never seen.jpg"])
        assert known_numbers(cache, 20) == set(range(20)) - {7}
        assert known_contents(cache, 20) == set(range(20))


def test_prune_drops_files_that_are_gone_but_nothing_of_a_folder_that_cannot_be_listed(
    tmp_path: Path,
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / "0.jpg").touch()
    unplugged = tmp_path / "unplugged"
    with open_cache(tmp_path) as cache:
        cache.write(
            [
                FileRow(str(here / "0.jpg"), key_of(0), sha256_of(0)),
                FileRow(str(here / "1.jpg"), key_of(1), sha256_of(1)),
                FileRow(str(unplugged / "2.jpg"), key_of(2), sha256_of(2)),
            ],
            [OutcomeRow(sha256_of(n), SCORER, outcome_of(n)) for n in range(4)],
        )
        cache.snapshot([str(here)], SCORER)
        assert cache.prune(older_than_days=1) == (1, 0)
        assert list(cache.folder(str(here), SCORER)) == ["0.jpg"]
        assert list(cache.folder(str(unplugged), SCORER)) == ["2.jpg"]
        assert known_contents(cache, 4) == {0, 1, 2, 3}
        assert cache.prune(older_than_days=-1) == (1, 3)
        assert known_contents(cache, 4) == {0}
        assert cache.stats().folders == 1


def test_prune_forgets_nothing_of_a_mount_point_whose_disk_is_unplugged(tmp_path: Path) -> None:
    mount = tmp_path / "stick"
    (mount / "DCIM").mkdir(parents=True)
    paths = [str(mount / "0.jpg"), str(mount / "DCIM" / "1.jpg")]
    with open_cache(tmp_path) as cache:
        cache.write([FileRow(path, key_of(n), sha256_of(n)) for n, path in enumerate(paths)], [])
        (mount / "DCIM").rmdir()  # the empty folder in which it was mounted
        assert cache.prune(older_than_days=1) == (0, 0)
        (mount / "not mounted").touch()
        assert cache.prune(older_than_days=1) == (0, 0)
        assert list(cache.folder(str(mount), SCORER)) == ["0.jpg"]
        assert list(cache.folder(str(mount / "DCIM"), SCORER)) == ["1.jpg"]


def test_prune_drops_what_was_written_while_the_clock_was_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_cache(tmp_path) as cache:
        with monkeypatch.context() as patch:
            patch.setattr(time, "time", lambda: 4e9)
            gone = str(tmp_path / "gone" / "0.jpg")
            cache.write(
                [FileRow(gone, key_of(0), sha256_of(0))],
                [OutcomeRow(sha256_of(0), SCORER, outcome_of(0))],
            )
        assert cache.prune(older_than_days=90) == (1, 1)


def test_clear_forgets_everything_and_the_damaged_files_too(tmp_path: Path) -> None:
    with open_cache(tmp_path) as cache:
        fill(cache, 100)
        aside = tmp_path / "library.sqlite3.corrupt-20250101T000000"
        aside.touch()
        before = cache.stats()
        assert before.set_aside == (str(aside),)
        cache.clear()
        after = cache.stats()
        assert (after.files, after.contents, after.folders, after.models) == (0, 0, 0, ())
        assert after.set_aside == ()
        assert after.bytes < before.bytes
        fill(cache, 20)
        assert known_numbers(cache, 20) == set(range(20))


def test_stats_and_export_name_the_model(tmp_path: Path) -> None:
    with open_cache(tmp_path) as cache:
        cache.remember_model(SCORER.fingerprint, "a model", ("safe", "not safe"))
        fill(cache, 40)
        cache.write([FileRow("/z/unscored.jpg", key_of(99), sha256_of(99))], [])
        cache.write([], [OutcomeRow(sha256_of(50), SCORER, outcome_of(50))])
        stats = cache.stats()
        assert (stats.files, stats.folders, stats.contents, stats.schema) == (41, 2, 41, 5)
        assert stats.models == ((SCORER, "a model", 41),)
        assert stats.bytes >= os.path.getsize(cache.path) > 0
        exported = list(cache.export())
    assert len(exported) == 42
    for row in exported[:40]:
        assert row.path is not None
        n = int(os.path.basename(row.path).removesuffix(".jpg"))
        assert row[1:] == (
            key_of(n),
            sha256_of(n),
            SCORER,
            "a model",
            ("safe", "not safe"),
            outcome_of(n),
        )
    unscored, without_file = exported[40:]
    assert unscored == ("/z/unscored.jpg", key_of(99), sha256_of(99), None, "", (), None)
    assert (without_file.path, without_file.outcome) == (None, outcome_of(50))


def test_a_scan_of_unchanged_files_writes_nothing(tmp_path: Path) -> None:
    with open_cache(tmp_path) as cache:
        cache.remember_model(SCORER.fingerprint, "m", ("a", "b"))
        fill(cache, 40)
    before = Path(cache.path).stat().st_mtime_ns, Path(cache.path).read_bytes()
    with open_cache(tmp_path) as cache:
        cache.remember_model(SCORER.fingerprint, "m", ("a", "b"))
        assert known_numbers(cache, 40) == set(range(40))
    assert (Path(cache.path).stat().st_mtime_ns, Path(cache.path).read_bytes()) == before


def test_verify_deletes_rows_that_fail_and_only_those(tmp_path: Path) -> None:
    with open_cache(tmp_path) as cache:
        fill(cache, 40)
        cache.remember_model(SCORER.fingerprint, "m", ("a", "b"))
        assert cache.verify() == (40 + 40 + 40 + 1 + 1, 0, False)
    with sqlite3.connect(cache.path) as raw:
        raw.execute("UPDATE file SET sha256 = ? WHERE name = ?", (sha256_of(8), b"7.jpg"))
        raw.execute(
            "UPDATE outcome SET body = replace(body, 'JPEG', 'JPEX') WHERE sha256 = ?",
            (sha256_of(9),),
        )
        raw.execute("UPDATE fact SET body = ? WHERE sha256 = ?", (bytes(8), sha256_of(10)))
        raw.execute("UPDATE snapshot SET checksum = checksum + 1")
        raw.execute("UPDATE model SET name = ?", (b"n",))
    raw.close()
    with open_cache(tmp_path) as cache:
        assert known_numbers(cache, 40) == set(range(40)) - {7, 9}
        assert known_contents(cache, 40) == set(range(40)) - {9}
        assert cache.stats().models[0].name == ""
        assert cache.verify() == (122, 5, False)
        assert cache.fact(sha256_of(10), LIKENESS) is None
        assert cache.verify() == (117, 0, False)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE outcome SET scorer = '' WHERE sha256 = (SELECT min(sha256) FROM outcome)",
        "UPDATE file SET name = 'x' WHERE name = (SELECT min(name) FROM file)",
    ],
)
def test_verify_deletes_a_row_whose_key_became_a_text(tmp_path: Path, damage: str) -> None:
    """It is read as bytes like any other, and no text equals bytes. A flipped bit did this."""
    with open_cache(tmp_path) as cache:
        fill(cache, 40)
    with sqlite3.connect(cache.path) as raw:
        assert raw.execute(damage).rowcount == 1
    raw.close()
    with open_cache(tmp_path) as cache:
        assert cache.verify().deleted == 1
        assert cache.verify().deleted == 0


def test_rows_filed_under_the_wrong_key_are_unknown(tmp_path: Path) -> None:
    """A checksum covers what the numbers of its key stand for."""
    with open_cache(tmp_path) as cache:
        fill(cache, 80)
    with sqlite3.connect(cache.path) as raw:
        raw.execute("UPDATE folder SET path = path || 'x' WHERE id = 1")
        raw.execute("UPDATE scorer SET decoder = 9")
    raw.close()
    with open_cache(tmp_path) as cache:
        assert len(cache.folder("/pictures/album 0x", SCORER)) == 0
        assert cache.outcome(sha256_of(1), SCORER._replace(decoder=9)) is None
        view = cache.folder("/pictures/album 1", SCORER._replace(decoder=9))
        assert {known.outcome for known in view.values()} == {None}


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ((3, 7, 17), "delete"),
        ((3, 40, 1), "delete"),
        ((3, 44, 5), "delete"),
        ((3, 44, 6), "wal"),
        ((3, 45, 0), "delete"),
        ((3, 50, 6), "delete"),
        ((3, 50, 7), "wal"),
        ((3, 51, 2), "delete"),
        ((3, 51, 3), "wal"),
        ((3, 52, 0), "wal"),
        ((4, 0, 0), "wal"),
    ],
)
def test_no_write_ahead_log_with_a_sqlite_that_can_corrupt_it(
    version: tuple[int, int, int], expected: str
) -> None:
    assert database.journal_mode(version) == expected


def test_the_journal_mode_changes_with_the_sqlite_that_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for mode in ("wal", "delete", "wal"):
        monkeypatch.setattr(database, "journal_mode", lambda _version, mode=mode: mode)
        with open_cache(tmp_path) as cache:
            assert cache.stats().journal_mode == mode
            write_numbers(cache, range(5))


def test_a_write_ahead_log_is_not_insisted_on_while_others_use_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "journal_mode", lambda _version: "delete")
    with open_cache(tmp_path) as first:
        raw = sqlite3.connect(first.path, isolation_level=None)
        raw.execute("BEGIN")
        raw.execute("SELECT * FROM folder").fetchall()
        monkeypatch.setattr(database, "journal_mode", lambda _version: "wal")
        began = time.monotonic()
        with open_cache(tmp_path) as second:
            assert second.stats().journal_mode == "delete"
        assert time.monotonic() - began < 5
        raw.close()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no permission bits")
def test_only_the_owner_may_read_it(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "new" / "library.sqlite3"
    before = os.umask(0)
    try:
        with Cache.open(str(path), warn=fail_on_warning) as cache:
            fill(cache, 20)
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
            assert {stat.S_IMODE(one.stat().st_mode) for one in path.parent.iterdir()} == {0o600}
    finally:
        os.umask(before)


def test_threads_may_share_a_library(tmp_path: Path) -> None:
    with open_cache(tmp_path) as cache:
        threads = [
            threading.Thread(
                target=lambda start=start: [
                    write_numbers(cache, range(n, n + 5)) for n in range(start, start + 50, 5)
                ]
            )
            for start in range(0, 200, 50)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert known_numbers(cache, 200) == set(range(200))


def test_a_closed_library_says_so_and_closes_again(tmp_path: Path) -> None:
    cache = open_cache(tmp_path)
    cache.close()
    cache.close()
    with pytest.raises(CacheUnavailable, match="closed"):
        cache.folder("/", SCORER)


def test_the_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "library.sqlite3"
    raw = sqlite3.connect(path)
    raw.execute("CREATE TABLE bookmarks (url)")
    raw.commit()
    raw.close()
    before = path.read_bytes()
    with pytest.raises(CacheUnavailable, match="another program"):
        open_cache(tmp_path)
    assert path.read_bytes() == before
    assert {one.name for one in tmp_path.iterdir()} == {path.name, f"{path.name}.lock"}


def test_a_folder_in_place_of_the_file_or_of_its_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "library.sqlite3").mkdir()
    with pytest.raises(CacheUnavailable, match="not a file"):
        open_cache(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(CacheUnavailable, match="cannot be opened"):
        Cache.open(str(tmp_path / "file" / "library.sqlite3"), warn=fail_on_warning)


def test_a_path_with_odd_characters_works(tmp_path: Path) -> None:
    path = os.path.join(tmp_path, "a ?#%41\n", "library.sqlite3")
    with Cache.open(path, warn=fail_on_warning) as cache:
        fill(cache, 20)
        assert known_numbers(cache, 20) == set(range(20))
        connection = database._open_read_only(cache.path)
        assert connection.execute("SELECT count(*) FROM file").fetchone() == (20,)
        connection.close()


def test_a_flat_folder_of_many_files_is_written_in_linear_time(tmp_path: Path) -> None:
    def seconds_for(cache: Cache, start: int) -> float:
        began = time.process_time()
        for first in range(start, start + 4000, 100):
            cache.write(
                [
                    FileRow(f"/flat/{n}.jpg", key_of(n), sha256_of(n))
                    for n in range(first, first + 100)
                ],
                [],
            )
        return time.process_time() - began

    with open_cache(tmp_path) as cache:
        times = []
        for start in range(0, 20_000, 4000):
            times.append(seconds_for(cache, start))
            cache.snapshot(["/flat"], SCORER)
        assert len(cache.folder("/flat", SCORER)) == 20_000
        assert times[-1] < 4 * times[0] + 0.5


def test_importing_the_library_loads_no_picture_or_model_code() -> None:
    code = (
        "import sys, nsfwscan.cache;"
        "print(sorted({'numpy', 'PIL', 'onnxruntime', 'typer', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


@given(st.sets(st.integers(0, A_FOLDER - 1)), st.booleans())
@settings(max_examples=trials(30, 1000), deadline=None)
def test_a_view_of_some_files_is_the_view_of_all_without_the_others(
    wanted: set[int], snapshot: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder, open_cache(Path(folder)) as cache:
        numbers = range(A_FOLDER)
        cache.write(
            [FileRow(path_of(n), key_of(n), sha256_of(n)) for n in numbers],
            [OutcomeRow(sha256_of(n), SCORER, outcome_of(n)) for n in numbers if n % 7],
        )
        place = os.path.dirname(path_of(0))
        if snapshot:
            cache.snapshot([place], SCORER)
        view = cache.folder(place, SCORER)
        names = [f"{n}.jpg" for n in wanted]
        some = view.only(names)
        assert some.names == sorted(names)
        assert some.stored is snapshot
        assert dict(some) == {name: view[name] for name in names}
        assert view.only(view.names) is view
        again = type(some).from_bytes(some.to_bytes())
        assert again is not None
        assert dict(again) == dict(some)


def test_parts_of_a_file_read_back_and_go_when_the_file_goes(tmp_path: Path) -> None:
    parts = [
        PartRow(sha256_of(0), 0, Part("a.jpg"), sha256_of(7)),
        PartRow(sha256_of(0), 1, Part(page=2), sha256_of(8)),
    ]
    with open_cache(tmp_path) as cache:
        fill(cache, 2)
        outcomes = [OutcomeRow(sha256_of(n), SCORER, outcome_of(n)) for n in (7, 8)]
        cache.write([], outcomes, [FactRow(sha256_of(7), LIKENESS, b"8 bytes!")])
        cache.write([], [], parts=parts)
        assert cache.parts(sha256_of(0)) == parts
        assert cache.parts(sha256_of(1)) == []
        assert cache.verify().deleted == 0
        assert cache.prune(older_than_days=-1).outcomes == 4
        assert cache.parts(sha256_of(0)) == []
        assert cache.outcome(sha256_of(7), SCORER) is None
        assert cache.fact(sha256_of(7), LIKENESS) is None


def test_a_damaged_part_is_unknown_and_verify_deletes_it(tmp_path: Path) -> None:
    with open_cache(tmp_path) as cache:
        cache.write([], [], parts=[PartRow(sha256_of(0), 0, Part(page=2), sha256_of(8))])
        raw = sqlite3.connect(cache.path)
        raw.execute("UPDATE part SET number = 1")
        raw.commit()
        raw.close()
        assert cache.parts(sha256_of(0)) == []
        assert cache.verify().deleted == 1


def test_every_table_with_a_checksum_is_verified_and_cleared(tmp_path: Path) -> None:
    with open_cache(tmp_path) as cache:
        path = cache.path
    with sqlite3.connect(path) as raw:
        names = "SELECT name FROM sqlite_schema WHERE type = 'table'"
        tables = {name for (name,) in raw.execute(names)}
        checked = {
            table
            for table in tables
            if "checksum" in {column[1] for column in raw.execute(f"PRAGMA table_info({table})")}
        }
    raw.close()
    assert checked == set(upkeep._CHECKED)
