"""Look at pictures the way NudeNet's README shows, as a plain script, in an environment with it.

`python peer_nudenet.py LIST`.
"""

from __future__ import annotations

import sys

from nudenet import NudeDetector


def main() -> None:
    """Print how many parts are found in each picture."""
    detector = NudeDetector()
    (names,) = sys.argv[1:]
    with open(names, encoding="utf-8") as file:
        for path in file.read().splitlines():
            print(len(detector.detect(path)), path, flush=True)


if __name__ == "__main__":
    main()
