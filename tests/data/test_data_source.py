"""Sources in memory, and the record of undecodable files."""

import pickle
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from rl_jax.data import Problems, Source, arrays, labels_at, resident
from rl_jax.errors import UsageError
from rl_jax.files import printable


def counting(size, *, shape=(2, 3, 1), labels=None):
    """A source whose image i is filled with i, and the set of threads that load."""
    threads = set()

    def load(index):
        threads.add(threading.get_ident())
        return np.full(shape, index, np.uint8)

    return Source("counting", size, shape, load, labels), threads


def test_import_is_light():
    code = (
        "import sys, rl_jax.data\n"
        "heavy = {'grain', 'PIL', 'sklearn', 'jax', 'simplejpeg', 'absl'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("size", [1, 64, 200])
def test_resident_holds_what_load_gives(size):
    source, threads = counting(size, labels=np.arange(size, dtype=np.int32))
    calls = []
    held = resident(
        source,
        limit_bytes=6 * size,
        threads=2,
        progress=lambda *done: calls.append((threading.get_ident(), *done)),
    )
    assert held.images.shape == (size, 2, 3, 1)
    np.testing.assert_array_equal(held.images[:, 0, 0, 0], np.arange(size))
    np.testing.assert_array_equal(held.load(size - 1), source.load(size - 1))
    np.testing.assert_array_equal(held.labels, source.labels)
    assert threading.get_ident() in threads  # by the line above only
    assert {thread for thread, *_ in calls} == {threading.get_ident()}
    assert calls[-1][1:] == (size, size)
    assert resident(held, limit_bytes=0).images is held.images


def test_resident_leaves_what_does_not_fit():
    source, threads = counting(10)
    assert resident(source, limit_bytes=59) == source
    assert not threads


def test_resident_counts_the_held_out_part():
    source = counting(10)[0]._replace(held_out=counting(4)[0])
    assert resident(source, limit_bytes=83).held_out.images is None
    assert resident(source, limit_bytes=84).held_out.images is not None
    only_small = resident(source, limit_bytes=59)
    assert only_small.images is None
    assert only_small.held_out.images is not None


def test_resident_stops_at_an_error():
    loaded = []

    def load(index):
        loaded.append(index)
        time.sleep(0.01)
        raise RuntimeError("no such image")

    source = Source("broken", 100_000, (1, 1, 1), load)
    with pytest.raises(RuntimeError, match="no such image"):
        resident(source, limit_bytes=10**6, threads=2)
    assert len(loaded) < 100


def test_labels_at():
    source = arrays(np.zeros((4, 2, 2), np.uint8), [5, 6, -1, 8])
    label = labels_at(source, np.array([3, 0, 2], np.int32))
    np.testing.assert_array_equal(label, [8, 5, -1])
    assert label.dtype == np.int32
    unlabelled = source._replace(labels=None)
    label = labels_at(unlabelled, np.array([3, 0], np.int32))
    np.testing.assert_array_equal(label, [-1, -1])
    problems = Problems("s", ["a", "b", "c", "d"], 1.0)
    problems.record(3, "broken")
    label = labels_at(source._replace(problems=problems), np.array([3, 0]))
    np.testing.assert_array_equal(label, [-1, 5])
    assert source.labels[3] == 8


def test_problems_count_each_file_once(caplog):
    problems = Problems("folder", [f"{i}.png" for i in range(50)], 1.0)
    for _ in range(3):
        for i in range(40):
            problems.record(i, "broken" if i % 2 else None)
    found = problems()
    assert (found["seen"], found["bad"]) == (40, 20)
    assert found["names"][:2] == ("1.png", "3.png")
    assert len(caplog.records) == 20
    assert caplog.messages[0] == "folder: cannot decode 1.png: broken"
    for i in range(40, 50):
        problems.record(i, "broken")
    assert len(problems()["names"]) == 20 < problems()["bad"] == 30


def read(problems, count, bad=()):
    for i in range(count):
        problems.record(i, "broken" if i in bad else None)


def test_problems_limit(refused):
    names = [f"{i:03}.png" for i in range(400)]
    # 1 % of 400 are four, wherever they lie.
    read(Problems("mine", names, 0.01), 400, bad={0, 1, 98, 99})
    problems = Problems("mine", names, 0.01)
    read(problems, 399, bad={0, 1, 98, 99})
    with refused(
        "mine: 5 of the 400 files read cannot be decoded, of 400 in all, more "
        "than max_bad=0.01 allows",
        "000.png, 001.png, 098.png, ...$",
    ):
        problems.record(399, "broken")  # fmt: skip
    few = Problems("mine", names[:5], 0.5)
    read(few, 5, bad={0, 1})
    with refused("2 of the 3"):
        read(Problems("mine", names[:3], 0.0), 3, bad={1, 2})
    # A single one never is an error.
    read(Problems("mine", names[:3], 0.0), 3, bad={1})


def test_too_many_problems_are_seen_before_all_was_read(refused):
    names = [str(i) for i in range(100_000)]
    with refused("100 of the 100 files read cannot be decoded, of 100000 in all"):
        read(Problems("mine", names, 0.01), 101, bad=range(101))
    # Fewer than allowed, of which the first hundred have more than their share.
    read(Problems("mine", names, 0.01), 1000, bad={3, 40, 41, 77, 500})
    rng = np.random.default_rng(0)
    for share, refusals in ((0.007, 0), (0.02, 20)):
        found = 0
        for _ in range(20):
            bad = np.flatnonzero(rng.random(len(names)) < share).tolist()
            try:
                read(Problems("mine", names[:10_000], 0.01), 10_000, bad=set(bad))
            except UsageError:
                found += 1
        assert found == refusals


def test_problems_travel_between_processes(caplog):
    here = Problems("s", ["a", "b", "c", "d"], 1.0)
    here.record(0)
    there = pickle.loads(pickle.dumps(here))
    there.record(0)
    there.record(2, "broken")
    there.record(3)
    records = there.take()
    assert records == [(0, None), (2, "broken"), (3, None)]
    assert there.take() == []
    caplog.clear()
    here.add(records)
    here.add(records)
    assert here() == {"seen": 3, "bad": 1, "names": ("c",)}
    assert len(caplog.records) == 1
    np.testing.assert_array_equal(here.bad_at(np.arange(4)), [0, 0, 1, 0])


def test_printable_names_are_one_safe_line():
    assert printable("a b/ü.jpg") == "a b/ü.jpg"
    assert printable("a\nb\x1b[31m\udcff") == "a\\nb\\x1b[31m\\udcff"
