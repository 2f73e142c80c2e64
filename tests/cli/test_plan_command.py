"""`rl-jax plan`: the table, the file, the search, and what it refuses."""

import json
import pathlib
import subprocess
import sys

import jax
import pytest

from rl_jax import train
from rl_jax.cli import main
from rl_jax.cli.plan import amount, duration, parse_bytes, scaled
from rl_jax.errors import UsageError

TINY = [
    *("--data", "8x8x1:100", "--batch-size", "16", "--steps", "10"),
    *("--encoder", "mlp", "--encoder.features", "8", "--encoder.out", "8"),
    *("--augment", "digits", "--projector.hidden", "8", "--projector.out", "4"),
    *("--peak-flops", "1e12", "--bandwidth", "1e11"),
]
PARTS = ("parameters", "optimizer", "method", "data", "batch", "rest")


@pytest.fixture(autouse=True)
def no_cache(monkeypatch):
    """The commands must not move the tests' compilation cache, nor their devices."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    assert jax.device_count() == 8


def one_line(capsys, *argv):
    with pytest.raises(SystemExit) as stopped:
        main(["plan", *map(str, argv)])
    error = capsys.readouterr().err
    assert stopped.value.code == 2, error
    assert error.startswith("rl-jax: ")
    assert error.count("\n") == 1, error
    return error


def test_table_and_file(tmp_path, capsys):
    """The file has the numbers of the table, and they add up."""
    path = tmp_path / "plan.json"
    memory = ("--memory", "64MiB")
    main(["plan", "simclr", *TINY, *memory, "--devices", "2", "--json", str(path)])
    printed = capsys.readouterr().out
    found = json.loads(path.read_text())
    assert sum(found["memory"][name] for name in PARTS) == found["memory"]["total"]
    assert found["limit"] == 64 << 20
    assert found["memory"]["data"] == 100 * 64 + 100 * 4
    assert found["memory"]["batch"] == 16 // 2 * 4
    assert found["fits"]
    assert found["resident"]
    assert (found["devices"], found["batch_size"], found["steps"]) == (2, 16, 10)
    total = sum(found["flops"].values())
    assert found["compute_seconds"] == pytest.approx(total / 1e12 / 2)
    assert found["traffic_seconds"] == pytest.approx(found["bytes_accessed"] / 1e11)
    for words in (
        "simclr with mlp on 8x8x1:100: 100 images 8x8x1 (held on the device), batch 16",
        "2 cpu devices",
        amount(found["memory"]["total"]),
        amount(found["bytes_accessed"]),
        duration(found["least_seconds"]),
        f"{scaled(total)}FLOP",
        "rates: 1 TFLOP/s, 100 GB/s, as given",
        "no promise",
    ):
        assert words in printed
    last = printed.strip().splitlines()[-1]
    assert last.startswith("fits: ")
    assert last.endswith("to spare")


def test_what_does_not_fit_is_no_error(capsys):
    main(["plan", "byol", *TINY, "--devices", "1", "--memory", "1KB"])
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert last.startswith("does not fit: ")
    assert "more than 1,000 B; what helps: a smaller network" in last


@pytest.mark.slow
def test_largest(capsys, tmp_path):
    path = tmp_path / "plan.json"
    flags = ["--devices", "4", "--largest", "--json", str(path)]
    main(["plan", "simclr", *TINY, *flags, "--memory", "64MiB"])
    printed = capsys.readouterr().out
    assert "the search ends at 96" in printed
    assert json.loads(path.read_text())["batch_size"] == 96
    main(["plan", "simclr", *TINY, *flags, "--memory", "1KB"])
    printed = capsys.readouterr().out
    assert json.loads(path.read_text())["batch_size"] == 4
    assert printed.strip().splitlines()[-1].startswith("does not fit")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--memory", "lots"], "--memory lots: expected an amount with its unit"),
        (["--memory", "80"], "--memory 80: expected an amount with its unit"),
        (["--memory", "0GB"], "expected an amount"),
        (["--devices", "9"], "--devices 9: jax has 8 cpu and has started"),
        (["--devices", "0"], "--devices must be at least 1, got 0"),
        (["--devices", "3"], "batch size 16 is not divisible by 3 devices"),
        (["--peak-flops", "0"], "--peak-flops must be > 0, got 0"),
        (["--bandwidth", "nan"], "--bandwidth must be > 0, got nan"),
        (["--json", "/nowhere/plan.json"], "--json /nowhere/plan.json: there is no"),
        (["--data", "8x8x1:0"], "--data 8x8x1:0: sizes must be at least 1"),
        (["--data", "8x8"], "--data 8x8: does not exist"),
        (["--batch-size", "200"], "must be <= the 100 examples there are"),
        (["--temperature", "-1"], "temperature must be > 0"),
        (["--log-every", "0"], "log_every must be at least 1"),
    ],
)
@pytest.mark.parametrize("largest", [[], ["--largest"]])
def test_bad_values(capsys, monkeypatch, flags, words, largest):
    monkeypatch.setattr(train, "plan_step", lambda *a, **k: pytest.fail("traced"))
    if largest and flags[1] in ("3", "200"):
        pytest.skip("the search chooses the batch itself")
    assert words in one_line(capsys, "simclr", *TINY, *flags, *largest)


def test_too_few_examples_for_the_devices(capsys):
    error = one_line(capsys, "simclr", *TINY, "--data", "8x8x1:5", "--largest")
    assert "the batch must be a multiple of 8, there are 5 examples" in error


def test_no_method(capsys):
    assert "plan: name a method first" in one_line(capsys)


def test_help(capsys):
    main(["plan", "--help"])
    assert "usage: rl-jax plan METHOD" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["plan", "simclr", "--help"])
    text = capsys.readouterr().out
    for flag in ("--memory", "--largest", "--temperature", "--encoder.widths"):
        assert flag in text


@pytest.mark.slow
def test_more_devices_than_there_are(tmp_path):
    """In a process of its own, where jax has not started yet."""
    path = tmp_path / "plan.json"
    argv = ["plan", "simclr", *TINY, "--devices", "16", "--json", str(path)]
    code = f"from rl_jax.cli import main; main({argv!r})"
    env = {"PATH": "", "JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": ""}
    root = str(pathlib.Path(__file__).parents[2])
    subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        env=env | {"PYTHONPATH": root},
    )
    found = json.loads(path.read_text())
    assert found["devices"] == 16
    assert found["memory"]["batch"] == 4


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("80GB", 80 * 10**9),
        ("24GiB", 24 << 30),
        ("500MB", 5 * 10**8),
        ("1.5 gib", 3 << 29),
        ("16kb", 16_000),
        ("7B", 7),
        ("1TiB", 1 << 40),
    ],
)
def test_parse_bytes(text, count):
    assert parse_bytes(text) == count


@pytest.mark.parametrize(
    "text", ["", "GB", "80", "-1GB", "80G", "1iB", "1e3MB", "80GB!", "nan GB", "0B"]
)
def test_parse_bytes_refuses(text):
    with pytest.raises(UsageError, match="expected an amount with its unit"):
        parse_bytes(text)


def test_numbers_for_reading():
    assert amount(0) == "0 B"
    assert amount(1024) == "1.0 KiB"
    assert amount(3 << 40) == "3,072.0 GiB"
    assert duration(0.0002) == "200 µs"
    assert duration(0.206) == "206 ms"
    assert duration(60) == "60.0 s"
    assert duration(7200) == "2.0 h"
    assert duration(3 * 86_400) == "3.0 days"
    assert scaled(5.99e9) == "5.99 G"
    assert scaled(12) == "12 "
