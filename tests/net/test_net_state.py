"""The table of a connection's states: its shape, its own documentation, and a model of two directions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimloop_net import _state

STATES = range(len(_state.NAMES))
EVENTS = [_state.EOF, _state.END, _state.FINISH, _state.FINISH_NOW, _state.DRAINED, _state.GONE]

# The model: each direction for itself. Sending is open, draining or done; receiving delivers, discards or is done.
Model = tuple[str, str]
MEANING: dict[int, Model] = {
    _state.OPEN: ("open", "deliver"),
    _state.PEER_DONE: ("open", "done"),
    _state.ENDING: ("draining", "deliver"),
    _state.ENDED: ("done", "deliver"),
    _state.DRAINING: ("draining", "discard"),
    _state.FLUSHING: ("draining", "done"),
    _state.LINGERING: ("done", "discard"),
    _state.CLOSED: ("done", "done"),
}


def expected(model: Model, event: int) -> Model:
    """Say what an event does to the two directions, without a look at the table."""
    sending, receiving = model
    if event == _state.GONE:
        return "done", "done"
    if event == _state.DRAINED:
        return "done" if sending == "draining" else sending, receiving
    if event == _state.EOF:
        return sending, "done"
    if sending == "open":
        sending = "draining"
    if event == _state.FINISH and receiving == "deliver":
        receiving = "discard"
    if event == _state.FINISH_NOW:
        receiving = "done"
    return sending, receiving


def move(state: int, event: int) -> int:
    """Follow the table: what is not listed changes nothing."""
    return _state.MOVES[state].get(event, state)


def test_table_is_complete() -> None:
    """Every state has a name and a row, and moves lead to states only."""
    assert sorted(_state.MOVES) == list(STATES)
    assert len(set(_state.NAMES)) == len(STATES)
    for row in _state.MOVES.values():
        assert set(row) <= set(EVENTS)
        assert set(row.values()) <= set(STATES)


def test_every_state_is_reachable() -> None:
    """No row is dead: each can be reached from OPEN."""
    reached = {_state.OPEN}
    while found := {target for state in reached for target in _state.MOVES[state].values()} - reached:
        reached |= found
    assert reached == set(STATES)


def test_closed_is_final() -> None:
    """Nothing leads out of CLOSED, and from everywhere else GONE leads into it."""
    assert _state.MOVES[_state.CLOSED] == {}
    for state in STATES:
        assert move(state, _state.GONE) == _state.CLOSED


def test_every_event_is_used() -> None:
    """Each event that has a name means something somewhere."""
    assert {event for row in _state.MOVES.values() for event in row} == set(EVENTS)


def test_order_of_states() -> None:
    """The comparisons in the connection mean what the sets say."""
    assert {state for state in STATES if state <= _state.PEER_DONE} == _state.CAN_SEND
    for state in STATES:
        assert (state >= _state.ENDING) == (state not in _state.CAN_SEND)
        closing = state in {_state.DRAINING, _state.FLUSHING, _state.LINGERING, _state.CLOSED}
        assert (state >= _state.DRAINING) == closing


@pytest.mark.parametrize("state", STATES)
def test_sets_agree_with_the_model(state: int) -> None:
    """The sets say of each state what its two directions say."""
    sending, receiving = MEANING[state]
    assert (state in _state.CAN_SEND) == (sending == "open")
    assert (state in _state.DELIVERS) == (receiving == "deliver")
    assert (state in _state.DISCARDS) == (receiving == "discard")
    # FIN goes out when we are done and the socket stays open for the peer's half.
    assert (state in _state.SENDS_FIN) == (sending == "done" and receiving != "done")


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("event", EVENTS)
def test_move_agrees_with_the_model(state: int, event: int) -> None:
    """Each move does to the two directions what the event means."""
    assert MEANING[move(state, event)] == expected(MEANING[state], event)


@given(st.lists(st.sampled_from(EVENTS), max_size=30))
def test_walk(events: list[int]) -> None:
    """On every walk data is never delivered after its end, and FIN is entered once at most."""
    state, fins, delivering, sending = _state.OPEN, 0, True, True
    for event in events:
        target = move(state, event)
        fins += target in _state.SENDS_FIN and state not in _state.SENDS_FIN
        assert fins <= 1
        assert delivering or target not in _state.DELIVERS
        assert sending or target not in _state.CAN_SEND
        delivering, sending = target in _state.DELIVERS, target in _state.CAN_SEND
        state = target
    # Whatever happened, the end can always be had: send what is left, and hear of the peer's end.
    for event in (_state.FINISH, _state.DRAINED, _state.EOF):
        state = move(state, event)
    assert state == _state.CLOSED


@pytest.mark.interpreted
def test_documentation_is_the_table() -> None:
    """The table that people read in the module says the same as the sets that the code reads."""
    rows = [line.split(maxsplit=1) for line in str(_state.__doc__).splitlines()]
    told = {row[0]: row[1] for row in rows if len(row) == 2 and row[0] in vars(_state)}
    assert list(told) == [name.upper().replace("-", "_") for name in _state.NAMES]
    for state, text in enumerate(told.values()):
        assert text.startswith("yes" if state in _state.CAN_SEND else "no")
        delivered = text.removeprefix("yes").removeprefix("no").strip()
        assert delivered.startswith("yes") == (state in _state.DELIVERS)
        assert delivered.startswith("no, thrown away") == (state in _state.DISCARDS)
