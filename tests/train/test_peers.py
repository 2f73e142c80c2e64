"""What one process tells the others, and what they make of it."""

import threading

import jax
import pytest

from rl_jax.train import peers

DEAD = "UNKNOWN: Gloo AllGather failed: Connection reset by peer\nmore"


class Store:
    """That of jax: a key is set once."""

    def __init__(self):
        self.values = {}

    def key_value_set(self, key, value):
        if key in self.values:
            raise jax.errors.JaxRuntimeError("ALREADY_EXISTS")
        self.values[key] = value

    def key_value_dir_get(self, folder):
        return [(k, v) for k, v in self.values.items() if k.startswith(folder)]


@pytest.fixture
def job(monkeypatch):
    """A function that makes this the process of a rank, of three; exits are noted."""
    store, exits = Store(), []
    monkeypatch.setattr(peers, "_store", lambda: store)
    monkeypatch.setattr(peers, "_leaving", threading.Event())
    monkeypatch.setattr(peers.os, "_exit", exits.append)
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    for name in ("LOOK", "GRACE", "PATIENCE"):
        monkeypatch.setattr(peers, name, 0.05)

    def become(rank):
        monkeypatch.setattr(jax, "process_index", lambda: rank)
        return exits

    return become


def test_the_first_to_fail_is_the_one_that_is_named(job):
    assert peers.failure() is None
    for rank in (2, 1):
        job(rank)
        peers.leave(rank, f"line {rank}")
    assert job(0) == [2, 1]
    assert peers.failure() == "process 2 has stopped: line 2"
    job(2)
    assert peers.failure() is None


def test_the_first_process_waits_until_the_others_have_gone(job, monkeypatch):
    monkeypatch.setattr(peers, "PATIENCE", 60.0)
    job(0)
    last = threading.Thread(target=peers.leave, args=(1, "line"))
    last.start()
    for rank in (1, 2):
        assert last.is_alive()
        peers._store().key_value_set(f"{peers.GONE}{rank}", "")
    last.join(30)
    assert job(0) == [1]


def test_and_not_for_ever(job):
    job(0)
    peers.leave(4, "line")
    assert job(0) == [4]


def test_a_process_that_goes_on_ends_with_the_line(job, capsys):
    job(1)
    peers.leave(1, "boom")
    peers._leaving.clear()
    exits = job(2)
    exits.clear()
    peers._watch()
    assert exits == [5]
    assert capsys.readouterr().err == "rl-jax: process 1 has stopped: boom\n"


def test_one_that_ends_by_itself_says_its_own(job, monkeypatch, capsys):
    job(1)
    peers.leave(1, "boom")
    peers._leaving.clear()
    exits = job(2)
    exits.clear()
    monkeypatch.setattr(peers, "GRACE", 30.0)
    thread = threading.Thread(target=peers._watch)
    thread.start()
    peers._leaving.set()
    thread.join(30)
    assert not thread.is_alive()
    assert exits == []
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "error",
    [
        ValueError("Gloo"),
        jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory"),
    ],
)
def test_errors_of_its_own(job, error):
    job(1)
    assert peers.lost(error) is None


def test_errors_of_a_lost_connection(job):
    job(1)
    error = jax.errors.JaxRuntimeError(DEAD)
    assert peers.lost(error) == (
        "another process has gone without a word: UNKNOWN: Gloo AllGather failed: "
        "Connection reset by peer"
    )
    peers._store().key_value_set(f"{peers.FAILED}first", '[0, "boom"]')
    assert peers.lost(error) == "process 0 has stopped: boom"
