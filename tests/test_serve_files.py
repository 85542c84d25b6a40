"""What runs the server for good: the recipes name what exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from shell import tool

from nsfwscan.cli.app import app
from nsfwscan.serve.settings import Limits

ROOT = Path(__file__).parent.parent
RECIPES = [
    *sorted((ROOT / "packaging" / "serve").iterdir()),
    ROOT / "packaging" / "container" / "compose.yaml",
    ROOT / "docs" / "serve.md",
]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_a_recipe_names_options_that_exist(path: Path) -> None:
    from typer.main import get_command

    command = get_command(app).commands["serve"]  # type: ignore[attr-defined]
    known = {flag for one in command.params for flag in one.opts}
    text = re.sub(r"\\?\n#? *", " ", path.read_text(encoding="utf-8"))
    named = re.findall(r"nsfwscan serve((?: (?!--detach)-[\w-]+(?: [^`\s-]\S*)?)+)", text)
    named += re.findall(r"command: \[serve, ([^\]]+)\]", text)
    for flag in re.findall(r"--[a-z-]+", " ".join(named)):
        assert flag in known, flag


def test_the_proxies_take_as_much_as_the_server() -> None:
    nginx = (ROOT / "packaging" / "serve" / "nginx.conf").read_text()
    assert f"client_max_body_size {Limits().body_bytes >> 20}m;" in nginx
    assert "proxy_request_buffering off;" in nginx, "pictures would be written to files"


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    import subprocess

    analyze = tool("systemd-analyze", "systemd")
    for path in (ROOT / "packaging" / "serve").glob("nsfwscan-serve.*"):
        text = path.read_text().replace("/usr/bin/nsfwscan", "/bin/true")
        (tmp_path / path.name).write_text(text)
    units = sorted(str(one) for one in tmp_path.iterdir())
    done = subprocess.run([analyze, "verify", *units], capture_output=True, check=False)
    said = [line for line in done.stderr.decode().splitlines() if "nsfwscan" in line]
    assert said == []
