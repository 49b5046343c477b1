"""The order of addresses: families in turn, nothing lost, nothing moved within a family."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from nimloop_net._happy_eyeballs import interleave

A, B, C = 10, 2, 7
addresses = st.lists(st.tuples(st.sampled_from([A, B, C]), st.integers()), max_size=30)


def test_rfc_example() -> None:
    """The families alternate, beginning with the one that the system prefers (RFC 8305 §4)."""
    found = [(A, "a1"), (A, "a2"), (A, "a3"), (B, "b1"), (B, "b2")]
    assert [each for _, each in interleave(found, 1)] == ["a1", "b1", "a2", "b2", "a3"]
    assert [each for _, each in interleave(found, 2)] == ["a1", "a2", "b1", "a3", "b2"]
    assert [each for _, each in interleave(found, 9)] == ["a1", "a2", "a3", "b1", "b2"]


def test_one_family_and_none() -> None:
    """There is nothing to mix."""
    assert interleave([(B, "b1"), (B, "b2")], 1) == [(B, "b1"), (B, "b2")]
    assert interleave([], 3) == []


@given(addresses, st.integers(1, 5))
def test_nothing_is_lost(found: list[tuple[int, int]], first_count: int) -> None:
    """It is a permutation that keeps the order within each family."""
    ordered = interleave(found, first_count)
    for family in (A, B, C):
        assert [each for each in ordered if each[0] == family] == [each for each in found if each[0] == family]
    assert len(ordered) == len(found)


@given(addresses, st.integers(1, 5))
def test_families_take_turns(found: list[tuple[int, int]], first_count: int) -> None:
    """After the head start, a family waits only as long as each of the others takes one turn."""
    ordered = [family for family, _ in interleave(found, first_count)]
    if not ordered:
        return
    first = found[0][0]
    lead = min(first_count, ordered.count(first))
    assert ordered[:lead] == [first] * lead
    rest = ordered[lead - 1 :]
    for start, end in itertools.pairwise(range(len(rest))):
        if rest[start] == rest[end]:
            assert set(rest[start:]) == {rest[start]}  # only one family is left
