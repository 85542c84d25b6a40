"""`python -m nsfwscan`, the same as `nsfwscan`."""

from nsfwscan.cli.main import run

run()
