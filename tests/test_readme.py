"""The README's library example runs as printed."""

import pathlib
import re

import numpy as np


def test_ten_lines():
    text = (pathlib.Path(__file__).parent.parent / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    scope = {}
    exec(code, scope)
    assert scope["features"].shape == (512, 32)
    assert np.isfinite(scope["features"]).all()
