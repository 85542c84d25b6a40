"""`packaging/ship BUNDLE`: the one command."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from enum import StrEnum
from typing import Annotated

try:
    import typer

    from shipping import archive, deb, licences, sbom
    from shipping.errors import ShippingError
    from shipping.stage import CHECKOUT, stage
except ModuleNotFoundError as error:
    sys.exit(
        f"ship: {sys.executable} has no module {error.name}; install the extra in the checkout: "
        f"{shlex.quote(sys.executable)} -m pip install '.[ship]'; or set PYTHON to another Python"
    )


class What(StrEnum):
    """What can be made."""

    TAR = "tar"
    ZIP = "zip"
    DEB = "deb"


def ship(
    bundle: Annotated[str, typer.Argument(metavar="BUNDLE", help="The folder PyInstaller made.")],
    out: Annotated[
        str, typer.Option("--out", metavar="DIR", help="Where to; beside BUNDLE if not given.")
    ] = "",
    only: Annotated[
        list[What] | None,
        typer.Option("--only", help="Make only these; without it, what suits this system."),
    ] = None,
) -> None:
    """Make an archive and a Debian package from a bundle, with licences, SBOM and checksums.

    SOURCE_DATE_EPOCH is the time that everything inside gets; without it, that of the last commit.
    The same bundle gives the same bytes.
    """
    bundle = os.path.abspath(bundle)
    out = os.path.abspath(out or os.path.dirname(bundle))
    os.makedirs(out, exist_ok=True)
    linux = sys.platform == "linux"
    wanted = only or ([What.TAR, What.DEB] if linux else [What.ZIP])
    epoch_s = source_date_epoch()
    made = []
    with tempfile.TemporaryDirectory(dir=out, prefix=".ship-") as scratch:
        folder = stage(bundle, scratch, epoch_s, linux=linux)
        name = os.path.join(out, os.path.basename(folder))
        for text in (licences.NAME, sbom.NAME):
            made.append(f"{name}-{text}" if text == licences.NAME else f"{name}.{text}")
            shutil.copyfile(os.path.join(folder, text), made[-1])
        if What.TAR in wanted:
            made.append(archive.write_tar(folder, f"{name}.tar.xz", epoch_s))
        if What.ZIP in wanted:
            made.append(archive.write_zip(folder, f"{name}.zip", epoch_s))
        if What.DEB in wanted:
            made.append(deb.write(folder, out, epoch_s))
    made.append(archive.write_checksums(made, out))
    for path in made:
        typer.echo(f"{os.path.getsize(path) / 1e6:8.1f} MB  {path}")


def source_date_epoch() -> int:
    """Return the time to give to everything, in seconds. Raises `ShippingError`."""
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not given:
        # Its owner may be another user. git refuses that, since it would obey the checkout's
        # configuration; but this very program is the checkout's, too.
        asked = [shutil.which("git") or "git", "-c", f"safe.directory={CHECKOUT}", "-C", CHECKOUT]
        try:
            done = subprocess.run(
                [*asked, "log", "-1", "--format=%ct"], capture_output=True, text=True, check=True
            )
        except (OSError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", "") or str(error)
            raise ShippingError(
                "set SOURCE_DATE_EPOCH (seconds since 1970), since git does not tell the time of "
                f"the last commit: {said.strip().partition(chr(10))[0]}"
            ) from None
        given = done.stdout.strip()
    if not given.isdigit():
        raise ShippingError(f"SOURCE_DATE_EPOCH is {given!r}, not a number of seconds")
    return int(given)


if __name__ == "__main__":
    try:
        typer.run(ship)
    except ShippingError as error:
        sys.exit(f"ship: {error}")
