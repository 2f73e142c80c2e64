"""A long run grows in nothing: one program, the same open files, the same memory."""

import logging
import os
import pathlib

import jax
import numpy as np
import optax
import pytest

from rl_jax import augment, data, methods, networks, train

pytestmark = [pytest.mark.fault, pytest.mark.slow]
STEPS, WARM = 2_000, 500


def resident_bytes():
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_two_thousand_steps(tmp_path, caplog):
    images = np.random.default_rng(0).integers(0, 256, (50, 4, 4, 1)).astype(np.uint8)
    method = methods.simclr(
        networks.mlp(features=(8,), out=8), networks.projection_head(hidden=8, out=4)
    )
    rows, files, memory = [], [], []

    with (
        train.Checkpoints(tmp_path / "checkpoints") as checkpoints,
        train.MetricsFile(tmp_path / "metrics.jsonl") as sink,
        jax.log_compiles(),
        caplog.at_level(logging.WARNING, logger="jax"),
    ):

        def on_log(row):
            sink.write(row)
            rows.append(row["step"])
            files.append(len(os.listdir("/proc/self/fd")))
            memory.append(resident_bytes())

        train.fit(
            method,
            data.arrays(images),
            augment=augment.views(lambda rng, image: image),
            optimizer=optax.sgd(0.1),
            steps=STEPS,
            batch_size=16,
            log_every=10,
            on_log=on_log,
            checkpoints=checkpoints,
            checkpoint_every=250,
            before_save=sink.sync,
        )
        checkpoints.finish()
    said = [record.getMessage() for record in caplog.records]
    compiled = [line for line in said if line.startswith("Compiling jit(one)")]
    assert len(compiled) == 1, compiled
    assert rows == list(range(10, STEPS + 1, 10))
    late = [i for i, at in enumerate(rows) if at > WARM and at % 250 > 100]
    assert len({files[i] for i in late}) == 1
    assert memory[late[-1]] < 1.05 * memory[late[0]]
