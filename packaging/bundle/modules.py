"""`python -m bundle.modules PROGRAM` prints the names of the modules frozen into a program.

Runs in the environment that has PyInstaller.
"""

from __future__ import annotations

import sys

from PyInstaller.archive.readers import CArchiveReader


def main(program: str) -> None:
    """Print one name a line."""
    print("\n".join(sorted(CArchiveReader(program).open_embedded_archive("PYZ.pyz").toc)))


if __name__ == "__main__":
    main(sys.argv[1])
