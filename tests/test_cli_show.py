"""`nsfwscan show`: what is known about single pictures, in words, as JSON and drawn."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import sqlite3
import subprocess
from pathlib import Path

import pictures as samples
import pytest
from conftest import Paint, settle
from PIL import Image
from shell import Call
from terminals import on_terminal
from tiny_model import GREEN, ORANGE, RED

from nsfwscan.cache.cache import Cache
from nsfwscan.cli.shared.shell_words import quoted
from nsfwscan.cli.shared.terminal_picture import Graphics, cells, graphics
from nsfwscan.media.decode.thumbnail import PIXELATED_LONGEST, Thumbnail
from nsfwscan.system import locations

pytestmark = pytest.mark.usefixtures("tiny")


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Call:
    return Call(capfd)


@pytest.fixture(autouse=True)
def _no_chafa(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide programs that draw better, so that the screen is the same everywhere."""
    monkeypatch.setenv("PATH", str(tmp_path / "no programs"))


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the cache remember files that were written a moment ago."""
    monkeypatch.setattr("nsfwscan.scanning.path_scan.is_racy", lambda *_: False)


def photo(
    path: Path, *, seed: int = 1, quality: int = 95, size: tuple[int, int] = (320, 240)
) -> Path:
    path.write_bytes(samples.encode(samples.photo(*size, seed=seed), "JPEG", quality=quality))
    settle(path)
    return path


# What it says


@pytest.mark.parametrize(
    ("colour", "decision", "code", "next_step"),
    [(RED, "nsfw", 1, "allow"), (ORANGE, "review", 0, "allow"), (GREEN, "safe", 0, "deny")],
)
def test_a_picture_has_its_verdict_score_thresholds_labels_and_model(
    call: Call,
    tmp_path: Path,
    paint: Paint,
    colour: tuple[int, int, int],
    decision: str,
    code: int,
    next_step: str,
) -> None:
    path = paint(tmp_path / "it.png", colour)
    for _ in range(2):  # scored, then from the cache
        done = call("show", path)
        assert done.code == code
        assert f"picture  {path}\n" in done.out
        assert f"verdict  {decision}, decided by the model\n" in done.out
        assert re.search(r"score +0\.\d{3} \(review from 0\.5, nsfw from 0\.8\)\n", done.out)
        assert re.search(r"labels +(red|other) 0\.\d{3}, (red|other) 0\.\d{3}\n", done.out)
        assert re.search(r"model +tiny-1 \([0-9a-f]{12}\)\n", done.out)
        assert "PNG, 64 x 48 pixels" in done.out
        assert f"  correct it:      nsfwscan {next_step} {path}\n" in done.err


def test_a_ruling_about_the_picture_is_named_with_its_date(
    call: Call, tmp_path: Path, paint: Paint
) -> None:
    path = paint(tmp_path / "it.png", RED)
    assert call("allow", path, "--quiet").code == 0
    done = call("show", path)
    assert done.code == 0
    assert re.search(
        r"verdict  safe, decided by your ruling of \d{4}-\d\d-\d\d \(allowed\)\n", done.out
    )
    assert "without the ruling it would be nsfw" in done.out
    assert f"undo the ruling: nsfwscan rulings forget {path}\n" in done.err
    (record,) = json.loads(call("show", "-f", "json", path).out)
    assert record["ruling"]["ruling"] == "allowed"
    assert record["ruling"]["path"] == str(path)


def test_a_ruling_about_a_similar_picture_is_named_by_that_picture(
    call: Call, tmp_path: Path
) -> None:
    one = photo(tmp_path / "one.jpg")
    other = photo(tmp_path / "other.jpg", quality=40, size=(200, 150))
    assert call("deny", "--near", one, "--quiet").code == 0
    done = call("show", other)
    assert done.code == 1
    said = r"verdict +nsfw, decided by your ruling of [\d-]+ \(denied\) about a similar picture, "
    assert re.search(said + re.escape(str(one)) + r" \(\d of 64 bits differ\)\n", done.out)
    table = call("scan", "--only", "all", other).out
    assert f"a person, for a similar picture ({one})" in table


@pytest.mark.usefixtures("trusted")
def test_copies_and_lookalikes_that_the_cache_knows_are_named(
    call: Call, tmp_path: Path, paint: Paint
) -> None:
    folder = tmp_path / "pictures"
    (folder / "deep").mkdir(parents=True)
    one = photo(folder / "one.jpg")
    for name in ("copy.jpg", "deep/copy.jpg"):
        (folder / name).write_bytes(one.read_bytes())
        settle(folder / name)
    smaller = photo(folder / "smaller.jpg", size=(160, 120))
    photo(folder / "another.jpg", seed=4)
    paint(folder / "plain.png", GREEN)
    assert call("scan", folder).code == 0
    (record,) = json.loads(call("show", "-f", "json", one).out)
    assert record["copies"] == [str(folder / "copy.jpg"), str(folder / "deep/copy.jpg")]
    assert [near["path"] for near in record["lookalikes"]] == [str(smaller)]
    assert record["lookalikes"][0]["distance"] <= 6
    out = call("show", one).out
    assert re.search(rf"copies +{folder}/copy.jpg\n +{folder}/deep/copy.jpg\n", out)
    assert re.search(rf"look-alikes +{smaller} \(\d of 64 bits differ\)\n", out)
    (plain,) = json.loads(call("show", "-f", "json", folder / "plain.png").out)
    assert (plain["copies"], plain["lookalikes"]) == ([], [])


@pytest.mark.usefixtures("trusted")
def test_many_copies_are_counted_and_json_names_all(call: Call, tmp_path: Path) -> None:
    one = photo(tmp_path / "00.jpg")
    for number in range(1, 14):
        (tmp_path / f"{number:02}.jpg").write_bytes(one.read_bytes())
        settle(tmp_path / f"{number:02}.jpg")
    assert call("scan", tmp_path).code == 0
    out = call("show", one).out
    assert f"{tmp_path}/10.jpg\n" in out
    assert f"{tmp_path}/11.jpg\n" not in out
    assert "and 3 more; --format json names all\n" in out
    assert len(json.loads(call("show", "-f", "json", one).out)[0]["copies"]) == 13


@pytest.mark.usefixtures("trusted")
def test_a_damaged_row_of_the_cache_names_no_copy(call: Call, tmp_path: Path) -> None:
    one, other = photo(tmp_path / "one.jpg"), tmp_path / "other.jpg"
    other.write_bytes(one.read_bytes())
    settle(other)
    assert call("scan", tmp_path).code == 0
    with Cache.open(locations.cache_file(), warn=pytest.fail) as cache:
        (sha256,) = {row.sha256 for row in cache.export()}
        assert cache.copies(sha256) == [str(one), str(other)]
        assert cache.copies(bytes(32)) == []
    with sqlite3.connect(locations.cache_file()) as connection:
        connection.execute("UPDATE file SET name = ? WHERE name = ?", (b"forged.jpg", b"other.jpg"))
    connection.close()
    with Cache.open(locations.cache_file(), warn=pytest.fail) as cache:
        assert cache.copies(sha256) == [str(one)]


def test_the_frame_that_decided_is_named_and_drawn(call: Call, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (40, 40), colour) for colour in (GREEN, GREEN, RED, GREEN)]
    path = tmp_path / "it.gif"
    data = samples.encode(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=200)
    path.write_bytes(data)
    done = call("show", path)
    assert done.code == 1
    assert "GIF, 40 x 40 pixels, " in done.out
    frame = json.loads(call("show", "-f", "json", path).out)[0]["frame"]
    assert re.search(rf"frame +{frame + 1} of \d has this score, the highest\n", done.out)
    raw = on_terminal("show", "--picture", path, env={"TERM": "xterm-kitty"}).raw
    red, green, blue = drawn_by_kitty(raw).getpixel((0, 0))
    assert red > 200
    assert max(green, blue) < 60


def test_a_picture_without_a_verdict_says_why(call: Call, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(samples.seeds()["JPEG baseline"][:400])
    empty = tmp_path / "empty.jpg"
    empty.touch()
    done = call("show", broken, empty)
    assert done.code == 3
    assert "verdict  none: truncated" in done.out
    assert "verdict  none: empty" in done.out
    assert "safe" not in done.out
    call("deny", broken, "--quiet")
    done = call("show", broken)
    assert done.code == 1
    assert re.search(r"verdict  nsfw, decided by your ruling of .* \(denied\)\n", done.out)
    assert "score    none: truncated" in done.out


def test_what_is_no_single_picture_is_an_error_and_the_rest_is_shown(
    call: Call, tmp_path: Path, paint: Paint
) -> None:
    path = paint(tmp_path / "it.png", GREEN)
    done = call("show", tmp_path / "nowhere.jpg", tmp_path, path)
    assert done.code == 2
    assert f"nsfwscan: {tmp_path}/nowhere.jpg does not exist\n" in done.err
    assert f"{tmp_path} is a folder\n  list its pictures with: nsfwscan scan {tmp_path}" in done.err
    assert "verdict  safe" in done.out
    assert call("show", tmp_path).out == ""
    assert call("show").code == 2


def test_a_hostile_name_stays_a_name(call: Call, tmp_path: Path, paint: Paint) -> None:
    path = paint(tmp_path / "it.png", GREEN)
    hostile = tmp_path / "\x1b]0;it's [red]\u202e\n.png"
    path.rename(hostile)
    done = call("show", hostile)
    assert done.code == 0
    assert not {"\x1b", "\u202e"} & set(done.out + done.err)
    assert len(done.out.splitlines()) == len(call("show", hostile).out.splitlines())
    assert r"\x1b]0;it's [red]\u202e\n.png" in done.out
    word = done.err.partition("nsfwscan deny ")[2].strip()
    echoed = subprocess.run(
        ["/bin/bash", "-c", f"printf %s {word}"], capture_output=True, check=True, timeout=20
    )
    assert os.fsdecode(echoed.stdout) == str(hostile)


def test_json_has_all_fields_of_a_record(call: Call, tmp_path: Path, paint: Paint) -> None:
    path = paint(tmp_path / "it.png", RED)
    (shown,) = json.loads(call("show", "-f", "json", path).out)
    (record,) = call("scan", "-f", "jsonl", path).records[:1]
    more = {"ruling": None, "copies": [], "lookalikes": []}
    assert shown == record | more | {"origin": shown["origin"]}


# Commands to copy


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("a.jpg", "a.jpg"),
        ("a b.jpg", "'a b.jpg'"),
        ("-rf", "./-rf"),
        ("$(rm).jpg", "'$(rm).jpg'"),
        ("a\nb'", r"$'a\x0ab\x27'"),
        ("a\udcff", r"$'a\xff'"),
        ("\u202e", r"$'\xe2\x80\xae'"),
        ("~/a", "'~/a'"),
    ],
)
def test_a_path_is_one_word_of_a_shell(path: str, word: str) -> None:
    assert quoted([path]) == word


def test_a_path_in_the_home_folder_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert quoted(["/home/me/a b", "/home/me/", "/home/meme/a"]) == "~/'a b' ~/ /home/meme/a"
    monkeypatch.setenv("HOME", "/")
    assert quoted(["/a"]) == "/a"


# The picture


def drawn_by_kitty(raw: str) -> Image.Image:
    """Return what kitty would draw."""
    commands = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", raw)
    keys = dict(key.split("=") for key in commands[0][0].split(","))
    assert keys["q"] == "2"  # the terminal must not answer: that would be typed input
    assert [one[0][-3:] for one in commands] == ["m=1"] * (len(commands) - 1) + ["m=0"]
    assert all(len(payload) <= 4096 for _, payload in commands)
    data = base64.b64decode("".join(payload for _, payload in commands))
    return Image.frombytes("RGB", (int(keys["s"]), int(keys["v"])), data)


def test_kitty_gets_pixels_few_of_them_unless_clear(tmp_path: Path) -> None:
    path = photo(tmp_path / "it.jpg", size=(800, 600))
    env = {"TERM": "xterm-kitty"}
    few = drawn_by_kitty(on_terminal("show", "--picture", path, env=env).raw)
    assert max(few.size) <= PIXELATED_LONGEST
    many = drawn_by_kitty(on_terminal("show", "--clear", path, env=env).raw)
    assert many.size == (512, 384)


def test_iterm2_gets_a_new_file_few_pixels_of_it_unless_clear(tmp_path: Path) -> None:
    path = photo(tmp_path / "it.jpg", size=(800, 600))
    for option, size in (("--picture", (12, 9)), ("--clear", (512, 384))):
        raw = on_terminal("show", option, path, env={"TERM_PROGRAM": "iTerm.app"}).raw
        found = re.search(r"\x1b\]1337;File=([^:]*):([^\x07]*)\x07", raw)
        assert found is not None
        data = base64.b64decode(found[2])
        assert f"size={len(data)}" in found[1]
        assert Image.open(io.BytesIO(data)).size == size


@pytest.mark.parametrize("columns", [120, 80, 40, 20])
def test_other_terminals_get_coloured_blocks_that_fit(tmp_path: Path, columns: int) -> None:
    path = photo(tmp_path / "it.jpg")
    seen = on_terminal("show", "--picture", path, columns=columns, env={"COLORTERM": "truecolor"})
    blocks = [line for line in seen.lines if line.startswith("▀")]
    assert {len(line) for line in blocks} == {min(48, columns)}
    assert len(blocks) == round(min(48, columns) * 3 / 8)
    colours = set(re.findall(r"\x1b\[38;2;(\d+;\d+;\d+)", seen.raw))
    assert len(colours) <= PIXELATED_LONGEST**2
    clear = on_terminal("show", "--clear", path, columns=columns, env={"COLORTERM": "truecolor"})
    assert len(set(re.findall(r"\x1b\[38;2;(\d+;\d+;\d+)", clear.raw))) > len(colours)


def test_chafa_draws_where_it_is_installed_and_gets_no_original_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "chafa").write_text(
        f"#!/bin/sh\necho \"chafa $*\"\n/bin/cat > '{tmp_path}/given.png'\n"
    )
    (programs / "chafa").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    seen = on_terminal("show", "--picture", photo(tmp_path / "it.jpg"))
    assert "chafa --size=48x18 --stretch --animate=off -" in seen.lines
    assert Image.open(io.BytesIO((tmp_path / "given.png").read_bytes())).size == (12, 9)
    (programs / "chafa").write_text("#!/bin/sh\nexit 1\n")
    assert "▀▀▀▀" in on_terminal("show", "--picture", tmp_path / "it.jpg").text


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"TERM": "xterm-kitty"}, Graphics.KITTY),
        ({"TERM": "xterm-ghostty"}, Graphics.KITTY),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, Graphics.KITTY),
        ({"TERM": "tmux-256color", "KITTY_WINDOW_ID": "1"}, Graphics.BLOCKS),
        ({"TERM": "xterm-kitty", "TMUX": "/tmp/tmux"}, Graphics.BLOCKS),
        ({"TERM_PROGRAM": "WezTerm"}, Graphics.ITERM2),
        ({"TERM": "xterm-256color", "LC_TERMINAL": "iTerm2"}, Graphics.ITERM2),
        ({"TERM": "screen", "LC_TERMINAL": "iTerm2"}, Graphics.BLOCKS),
        ({"TERM": "xterm-256color"}, Graphics.BLOCKS),
        ({}, Graphics.BLOCKS),
    ],
)
def test_a_terminal_is_known_by_its_environment(
    environ: dict[str, str], expected: Graphics
) -> None:
    assert graphics(environ) is expected


@pytest.mark.parametrize("env", [{"TERM": "dumb"}, {"NO_COLOR": "1"}])
def test_a_terminal_without_colours_gets_a_word_instead(
    tmp_path: Path, env: dict[str, str]
) -> None:
    seen = on_terminal("show", "--picture", photo(tmp_path / "it.jpg"), env=env)
    assert "no picture: this terminal shows no colours" in seen.text
    assert "▀" not in seen.text


def test_in_a_pipe_there_is_no_picture_but_all_else(call: Call, tmp_path: Path) -> None:
    done = call("show", "--picture", photo(tmp_path / "it.jpg"))
    assert "no picture: standard output is not a terminal" in done.err
    assert "verdict  " in done.out
    assert done.out.isprintable() or "\x1b" not in done.out


def test_a_picture_that_cannot_be_decoded_is_not_drawn(tmp_path: Path) -> None:
    (tmp_path / "it.jpg").write_bytes(samples.seeds()["JPEG baseline"][:300])
    seen = on_terminal("show", "--picture", tmp_path / "it.jpg")
    assert seen.code == 3
    assert "nsfwscan: no picture: " in seen.text
    assert "▀" not in seen.text


@pytest.mark.parametrize("size", [(12, 12), (1, 500), (500, 1), (1, 1), (48, 48)])
def test_a_drawn_picture_fits_and_keeps_its_shape(size: tuple[int, int]) -> None:
    columns, rows_ = cells(Thumbnail(b"", "", *size), (48, 24))
    assert 1 <= columns <= 48
    assert 1 <= rows_ <= 24
    assert columns == 48 or rows_ == 24
