"""The benchmark of the training step: runs to its end on CPU, and counts right."""

import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from profiling import results, step


def read(folder):
    return json.loads((folder / "step.json").read_text())


def test_tiny(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OUT", str(tmp_path))
    step.main(["--tiny", "--no-torch", "--rounds", "2", "--only", "resnet18"])
    result = read(tmp_path)
    assert result["skipped"] == []
    assert result["ceiling"] > 0
    (row,) = result["rows"]
    assert list(row["seconds"]) == list(step.STAGES)
    assert all(len(samples) == 2 for samples in row["seconds"].values())
    assert all(row["compile_seconds"][name] > 0 for name in step.STAGES)
    assert row["flops"] > 0
    text = capsys.readouterr().out
    assert results.render(tmp_path / "step.json") in text
    assert "| convolutions, 8², float32 | step" in text
    assert (tmp_path / "step.png").exists()


def test_what_fails_is_named_and_the_rest_goes_on(tmp_path, monkeypatch):
    prepare = step.prepare

    def broken(program, make, steps):
        if program.data == "images":
            raise MemoryError("no\nroom")
        return prepare(program, make, steps)

    monkeypatch.setattr(step, "prepare", broken)
    config = step.TINY[0]
    stages = (step.STEP, step.FORWARD)
    work = step.Compiling(config, stages)
    step.wait_for([work], {}, 300)
    row = work.measured(seconds=1, rounds=1)
    assert row["skipped"] == {step.STEP: "MemoryError: no room"}
    assert list(row["seconds"]) == [step.FORWARD]


def test_parts_of_a_step():
    seconds = {
        step.STEP: 10.0,
        step.AUGMENT: 1.0,
        step.FORWARD: 2.0,
        step.BACKWARD: 6.0,
        step.LOSS: 6.5,
        step.PROBE: 10.25,
    }
    parts = step.shares(seconds)
    assert parts == {
        "augmentation": 1.0,
        "forward": 2.0,
        "backward": 4.0,
        "loss": 0.5,
        "optimizer": 2.5,
        "probe": 0.25,
    }
    assert sum(parts.values()) == seconds[step.PROBE]
    assert step.shares({step.STEP: 1.0, step.AUGMENT: 0.5}) == {"augmentation": 0.5}


def test_kernels_of_a_trace():
    def line(name, *events):
        events = [
            SimpleNamespace(name=n, stats=[("hlo_op", op)], duration_ns=ns)
            for n, op, ns in events
        ]
        return SimpleNamespace(name=name, events=events)

    stream = line(
        "Stream #1", ("k", "dot.1", 2e6), ("k", "dot.1", 4e6), ("copy", "", 9e6)
    )
    again = line("XLA Modules", ("step", "", 15e6))
    planes = [
        SimpleNamespace(name="/device:GPU:0", lines=[stream, again]),
        SimpleNamespace(name="/host:CPU", lines=[stream]),
    ]
    text = '%dot.1 = f32[2] custom-call(%x), metadata={op_name="jit(f)/dot" line=3}'
    rows = step.summed(planes, step.operations(text), steps=2)
    assert rows == [
        {"name": "copy", "op": "", "ms": 4.5, "count": 0.5},
        {"name": "dot.1", "op": "jit(f)/dot", "ms": 3.0, "count": 1.0},
    ]
    row = {"title": "T", "kernels": rows, "seconds": {step.STEP: [0.010]}}
    assert "| dot.1" in step.kernels_table(row)


def test_a_loop_is_counted_once_and_not_here():
    def body(carry, x):
        return carry @ x

    x = jax.ShapeDtypeStruct((32, 32), jnp.float32)
    loops = [step.looped(body, k).lower(x, x).cost_analysis() for k in (2, 7)]
    # Why the steps of a call cannot be counted from the program that is timed.
    assert loops[0]["flops"] == pytest.approx(loops[1]["flops"], rel=0.01)
    assert loops[1]["flops"] == pytest.approx(2 * 32**3, rel=0.01)


def test_flops_of_a_vision_transformer():
    width, depth, patch, side, batch = 64, 2, 8, 32, 4
    network = {
        "kind": "vit", "width": width, "depth": depth, "heads": 2, "patch": patch
    }  # fmt: skip
    config = step.TINY[1]._replace(
        network=network, size=side, source=side, batch=batch, steps=5, head=16
    )
    tokens = (side // patch) ** 2
    embed = patch * patch * 3 * width
    blocks = depth * (12 * width**2 + 2 * tokens * width)
    head = width * 16 + 16 * 128
    views = 2 * batch
    # Twice as much backward, but for the gradient by the pixels.
    products = 2 * views * (tokens * (2 * embed + 3 * blocks) + 3 * head)
    counted = step.model_flops(config)
    # Beside the products stand softmax, GELU and normalisation.
    assert products < counted < 1.15 * products
    assert step.model_flops(config._replace(steps=1)) == counted


def test_flops_of_a_network_of_images_that_double():
    config = step.TINY[0]
    once = step.model_flops(config)
    assert step.model_flops(config._replace(batch=16)) == pytest.approx(
        2 * once, rel=0.02
    )
