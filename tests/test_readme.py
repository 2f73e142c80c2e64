"""The README's examples of the library run as printed."""

import pathlib
import re

import numpy as np


def test_examples():
    text = (pathlib.Path(__file__).parent.parent / "README.md").read_text()
    measures, training, losses = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    scope = {}
    exec(training, scope)
    assert scope["features"].shape == (512, 32)
    assert np.isfinite(scope["features"]).all()
    scope = {}
    exec(losses, scope)
    assert scope["scores"].shape == scope["index"].shape == (4096, 20)
    scope = {}
    exec(measures, scope)
    assert scope["probe"].mean > 0.8
    assert scope["near"] > 0.8
    assert 0 < scope["similar"] < 1
    assert scope["low"] < scope["rank"] < scope["high"]
