"""`python -m bundle.model NAME|PATH FOLDER` prints where that model's package is, and its name.

The two stand on one line, with a tab between them. A model that is not installed is fetched into
FOLDER. Runs in the environment that is frozen.
"""

from __future__ import annotations

import sys

from nsfwscan.models import select
from nsfwscan.models.store import ModelStore
from nsfwscan.system import locations
from nsfwscan.values.errors import ModelNotFound, NsfwscanError


def main(name: str, folder: str) -> None:
    """Print the folder and the name of the package, every byte of it verified."""
    try:
        try:
            found = ModelStore(locations.models_folder()).find(name)
        except ModelNotFound:
            found = select.resolve_model(ModelStore(folder), name)
        found.verify()
    except NsfwscanError as error:
        sys.exit(f"{error}\n  {error.hint}")
    print(found.folder, found.manifest.package, sep="\t")


if __name__ == "__main__":
    main(*sys.argv[1:])
