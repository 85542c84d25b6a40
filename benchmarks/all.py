"""Measure everything: `python -m benchmarks.all`, about half an hour on two quiet cores."""

from __future__ import annotations

from benchmarks import accuracy, rescan, scan


def main() -> None:
    """Run the benchmarks one after the other; exit with 1 when a score is off."""
    for title, benchmark in (
        ("First scans", scan.main),
        ("Scans of unchanged files", rescan.main),
        ("Accuracy", accuracy.main),
    ):
        print(f"\n## {title}\n", flush=True)
        benchmark([])


if __name__ == "__main__":
    main()
