"""Whether the engine keeps up."""

from __future__ import annotations

from asr.server.lag import Lag
from hypothesis import given
from hypothesis import strategies as st

LIMIT_S = 0.5
waits = st.lists(st.floats(0.0, 10.0), min_size=1, max_size=30)


@given(waits, st.integers(0, 30))
def test_being_held_up_is_not_lag(late, at) -> None:
    """One step on time among late ones of the last two seconds is enough to keep up."""
    lag = Lag()
    late.insert(min(at, len(late)), 0.01)
    for i, waited_s in enumerate(late):
        lag.note(100 + 0.05 * i, waited_s)
    assert lag.seconds(100 + 0.05 * len(late)) <= 0.01


@given(waits)
def test_being_late_at_every_step_is(late) -> None:
    """Steps that are all late make a lag as long as the least late of the last two seconds, until they are over."""
    lag = Lag()
    for i, waited_s in enumerate(late):
        lag.note(100 + 0.3 * i, LIMIT_S + waited_s)
    end = 100 + 0.3 * (len(late) - 1)
    assert lag.seconds(end) == LIMIT_S + min(late[-7:])  # those of 1.8 s
    assert lag.seconds(end + 2.1) == 0.0
