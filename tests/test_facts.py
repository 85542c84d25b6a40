from __future__ import annotations

import pytest

from nsfwscan.values.facts import IN_COLUMNS, KINDS, LIKENESS, MOST_BYTES, FactKind


@pytest.mark.parametrize("kind", KINDS)
def test_what_stands_for_no_fact_can_be_stored_as_one(kind: FactKind) -> None:
    assert kind.takes(kind.absent)


def test_each_kind_has_a_name_of_its_own() -> None:
    assert len({kind.name for kind in KINDS}) == len(KINDS)
    assert LIKENESS in IN_COLUMNS


def test_a_fact_with_a_width_is_not_all_zeros_which_stand_for_unknown() -> None:
    kind = FactKind("grey", "1", 2)
    assert kind.takes(b"\0\1")
    assert not kind.takes(b"\0\0")
    assert not kind.takes(b"\1")


def test_a_fact_without_a_width_has_a_most_length() -> None:
    kind = FactKind("words", "1")
    assert kind.takes(b"")
    assert kind.takes(bytes(MOST_BYTES))
    assert not kind.takes(bytes(MOST_BYTES + 1))
