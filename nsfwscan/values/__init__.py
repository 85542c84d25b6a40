"""Shared value types: results, outcomes, file keys, errors. No I/O, standard library only."""
