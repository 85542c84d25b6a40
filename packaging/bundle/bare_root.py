"""`packaging/bare-root BUNDLE PICTURES`: the same scores where there is no Python and no network.

In: a bundle, and a folder of pictures. Out: how many scores of the bundle are those of the
nsfwscan installed here, bit for bit; exit code 1 when one is not, or when the bundle needed what it
must not. It runs in a root of its own that holds the C library, the bundle and the pictures, and
nothing else: no shell, no Python, a bare /dev and /proc. There is no network, and all is mounted
read-only but the four folders that nsfwscan may write to.

Needs Linux, `unshare` of util-linux, and to be root or be allowed user namespaces.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, Any

from bundle import check, contents

if TYPE_CHECKING:
    from collections.abc import Sequence

_OWN = (".cache/nsfwscan", ".config/nsfwscan", ".local/share/nsfwscan", ".local/state/nsfwscan")
"""What nsfwscan may write to, below the home folder."""
_HOME = "home/somebody"
_DEVICES = ("null", "zero", "urandom")
_INSIDE = """
set -eu
root=$1; shift
mount --bind "$root" "$root"
for own in $OWN; do mount --bind "$root/$own" "$root/$own"; done
for device in $DEVICES; do mount --bind "/dev/$device" "$root/dev/$device"; done
mount -t proc proc "$root/proc"
mount -o remount,bind,ro "$root"
cd "$root"
chroot=$(command -v chroot)
exec env -i HOME="/$HOME_INSIDE" "$chroot" "$root" "$@"
"""
_KEPT = ("status", "reason", "decision", "nsfw_score", "labels", "sha256", "format", "width")
"""What has to be equal of two records."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare, print the result, and exit with 1 when something differs."""
    parser = argparse.ArgumentParser(prog="packaging/bare-root", description=__doc__)
    parser.add_argument("bundle", help="the folder with the program in it")
    parser.add_argument("pictures", help="a folder of pictures")
    parser.add_argument(
        "--python",
        default=sys.executable,
        help="a Python that has nsfwscan installed, to compare with; this one when not given",
    )
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="nsfwscan-root-") as scratch:
        found = compare(
            os.path.abspath(given.bundle), os.path.abspath(given.pictures), given.python, scratch
        )
    print("\n".join(found.lines))
    sys.exit(0 if found.equal else 1)


class Comparison:
    """What came of it: lines for a person, and whether everything is as it should be."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.equal = True

    def expect(self, holds: bool, sentence: str) -> None:
        """Add a line; the comparison fails when it does not hold."""
        self.lines.append(f"{'  ok' if holds else 'FAIL'}  {sentence}")
        self.equal &= holds


def compare(
    bundle: str, pictures: str, python: str, scratch: str, *, at_least: int = 40
) -> Comparison:
    """Scan `pictures` with the bundle in a bare root and with the nsfwscan of `python`."""
    root = os.path.join(scratch, "root")
    libraries = make_root(root, bundle, pictures)
    result = Comparison()
    result.lines.append(f"the root holds the bundle, the pictures and {', '.join(libraries)}")
    here = _scores(
        [python, "-m", "nsfwscan", *_scan(os.path.join(bundle, "models"), pictures)],
        {**os.environ, "NSFWSCAN_HOME": os.path.join(scratch, "home")},
    )
    inside = in_root(root)
    first = _scores([*inside, "/bundle/nsfwscan", *_scan("/bundle/models", "/pictures")])
    again = _scores([*inside, "/bundle/nsfwscan", *_scan("/bundle/models", "/pictures")])
    scored = [name for name, one in here.items() if one["status"] == "scanned"]
    formats = sorted({here[name]["format"] for name in scored})
    result.expect(len(scored) >= at_least, f"{len(scored)} pictures scored, {', '.join(formats)}")
    same = [name for name in here if _facts(here[name]) == _facts(first.get(name, {}))]
    result.expect(
        len(same) == len(here) == len(first),
        f"{len(same)} of {len(here)} results equal those of the installed package, bit for bit",
    )
    for name in sorted(set(here) - set(same)):
        result.lines.append(f"      {name}: {_facts(here[name])} / {_facts(first.get(name, {}))}")
    origins = {one["origin"] for one in again.values() if one["status"] == "scanned"}
    result.expect(origins == {"cache"}, f"a second scan takes scores from {', '.join(origins)}")
    for command in (["selftest", "--offline"], ["doctor"]):
        done = subprocess.run(
            [*inside, "/bundle/nsfwscan", *command], capture_output=True, text=True, check=False
        )
        result.expect(done.returncode == 0, f"{command[0]} ends with {done.returncode}")
        if done.returncode:
            result.lines.append(done.stdout + done.stderr)
    strange = [
        path
        for path in _written(os.path.join(root, _HOME))
        if not path.startswith(tuple(f"{own}/" for own in _OWN))
    ]
    result.expect(
        not strange, f"written outside its own folders: {', '.join(strange) or 'nothing'}"
    )
    return result


def make_root(root: str, bundle: str, pictures: str) -> list[str]:
    """Put together a root with the bundle, the pictures and the C library; return its parts."""
    for folder in ("dev", "proc", *(os.path.join(_HOME, own) for own in _OWN)):
        os.makedirs(os.path.join(root, folder))
    for device in _DEVICES:
        open(os.path.join(root, "dev", device), "wb").close()
    shutil.copytree(bundle, os.path.join(root, "bundle"), symlinks=True)
    shutil.copytree(pictures, os.path.join(root, "pictures"))
    wanted = {}
    real = os.path.realpath(bundle) + os.sep
    for path in check.native_files(bundle):
        for found in contents.libraries(path, bundle).values():
            if found and not os.path.realpath(found).startswith(real):
                wanted[found] = os.path.realpath(found)
    loader = contents.loader(os.path.join(bundle, "nsfwscan"))
    wanted[loader] = os.path.realpath(loader)
    for path, source in wanted.items():
        target = root + path
        os.makedirs(os.path.dirname(target), exist_ok=True)
        shutil.copy2(source, target)
    return sorted(map(os.path.basename, wanted))


def namespaces() -> list[str]:
    """Return the options of `unshare` for a root of one's own without a network."""
    wanted = ["--mount", "--net", "--ipc", "--pid", "--fork"]
    return wanted if os.geteuid() == 0 else [*wanted, "--user", "--map-root-user"]


def in_root(root: str) -> list[str]:
    """Return what to put before a command so that it runs in the root, without a network."""
    own = " ".join(f"{_HOME}/{one}" for one in _OWN)
    settings = [f"OWN={own}", f"DEVICES={' '.join(_DEVICES)}", f"HOME_INSIDE={_HOME}"]
    return ["unshare", *namespaces(), "env", *settings, "sh", "-c", _INSIDE, "sh", root]


def _scan(models: str, pictures: str) -> list[str]:
    model = next(iter(sorted(os.listdir(models)))) if os.path.isdir(models) else ""
    options = ["--offline", "--exit-zero", "--quiet", "--format", "jsonl"]
    # The installed package has no models of its own: it is given the bundle's.
    return [
        "scan",
        *options,
        *(["--model", os.path.join(models, model)] if model else []),
        pictures,
    ]


def _scores(command: Sequence[str], env: dict[str, str] | None = None) -> dict[str, dict[str, Any]]:
    """Run a scan and return its records by the name of the picture."""
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    records = [json.loads(line) for line in done.stdout.splitlines()]
    return {os.path.basename(one["path"]): one for one in records}


def _facts(record: dict[str, Any]) -> tuple[str, ...]:
    # JSON holds the shortest text that reads back as the same double.
    return tuple(repr(record.get(name)) for name in _KEPT)


def _written(home: str) -> list[str]:
    return sorted(
        os.path.relpath(os.path.join(parent, name), home)
        for parent, _, names in os.walk(home)
        for name in names
    )
