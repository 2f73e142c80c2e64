"""How often the host waits, and how long a call may be."""

import jax
import pytest

from rl_jax.train import pace
from rl_jax.train.pace import Pace, part_of, scanned_steps


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until its only entry is moved; and the waits."""
    now, waits = [0.0], []
    monkeypatch.setattr(pace.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(pace.jax, "block_until_ready", waits.append)
    return now, waits


def run(paced, now, steps, *, seconds, compiling=0.0, left=10**9):
    """Steps of so many seconds each; the first call of a length compiles too."""
    step, counts, known = 0, [], set()
    while step < steps:
        count = paced.count(left)
        now[0] += count * seconds + (compiling if count not in known else 0)
        known.add(count)
        step += count
        counts.append(count)
        assert not paced.stops(step, step)
    return counts


def test_waits_some_seconds_apart_and_more_often_at_first(clock):
    now, waits = clock
    run(Pace(0, None, most=1), now, 1500, seconds=0.01, compiling=100.0)
    assert waits[:10] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
    assert waits[10:] == [1012]  # 5 s are 500 steps


def test_waits_after_each_step_that_is_slow(clock):
    now, waits = clock
    run(Pace(0, None, most=1), now, 5, seconds=20.0)
    assert waits == [1, 2, 3, 4, 5]


def test_one_process_need_not_wait_to_be_stopped(clock):
    asked = iter([False, False, True])
    paced = Pace(0, lambda: next(asked), most=1)
    assert [paced.stops(step, step) for step in (1, 2, 3)] == [False, False, True]


def test_a_call_that_takes_too_long_gets_shorter_once(clock):
    now, _ = clock
    paced = Pace(0, None, most=64, adapts=True)
    counts = run(paced, now, 300, seconds=1.0, compiling=100.0)
    assert counts[:3] == [64, 64, 4]
    assert set(counts[2:]) == {4}


@pytest.mark.parametrize(("adapts", "seconds"), [(False, 1.0), (True, 0.1)])
def test_other_calls_stay_as_they_are(clock, adapts, seconds):
    now, _ = clock
    paced = Pace(0, None, most=64, adapts=adapts)
    counts = run(paced, now, 6400, seconds=seconds, compiling=1000.0)
    assert set(counts) == {64}


def test_what_is_no_step_is_not_measured(clock):
    now, _ = clock
    paced = Pace(0, None, most=4, adapts=True)
    for step in range(4, 100, 4):
        assert paced.count(100) == 4
        now[0] += 0.4
        with paced.aside():  # a save
            now[0] += 300.0
        paced.stops(step, step)
    assert paced.most == 4


def test_single_steps_where_fewer_are_left():
    assert Pace(0, None, most=8).count(7) == 1


def test_parts():
    assert [part_of(n, 64) for n in (10, 64, 100, 2000, 97)] == [10, 64, 50, 50, 64]


def test_steps_of_one_call(monkeypatch):
    assert scanned_steps(100) == 1
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert scanned_steps(10) == 10
    assert scanned_steps(100) == 50
