"""Benchmarks run where only jax, flax, optax and NumPy are installed."""

import ast
import pathlib
import subprocess
import sys

import pytest

import profiling

FOLDER = pathlib.Path(profiling.__file__).parent
EXPECTED = {"jax", "numpy", "profiling", "optax", "rl_jax"}
LAZY = {"matplotlib", "sklearn"}
THEIRS = {
    "worker.py": {
        *("numpy", "torch", "torch_step", "pytorch_metric_learning"),
        *("inf_cl", "cut_cross_entropy", "liger_kernel", "siglip_kernel"),
    },
    "torch_step.py": {"torch", "torchvision"},
    "torch_agreement.py": {
        *("torch", "torch_encoders", "torch_losses", "torch_masks"),
        *("torch_training", "worker"),
    },
    "torch_losses.py": {
        *("torch", "authors", "lightly", "pytorch_metric_learning"),
        *("open_clip", "info_nce", "timm"),
    },
    "torch_masks.py": {"torch", "authors"},
    "torch_encoders.py": {"torch", "timm", "torchvision"},
    "torch_training.py": {"torch", "authors", "lightly", "timm"},
    "authors.py": {"torch", "numpy"},
}
"""What runs in PyTorch's environment."""


def imports(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (a.name.split(".")[0] for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.split(".")[0]


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.py")), ids=lambda p: p.name)
def test_imports(path):
    tree = ast.parse(path.read_text())
    found = set(imports(tree)) - set(sys.stdlib_module_names)
    if path.name in THEIRS:
        assert found == THEIRS[path.name]
        return
    assert found <= EXPECTED | LAZY
    at_the_top = (n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom))
    top = set(imports(ast.Module(list(at_the_top), [])))
    assert not top & LAZY


def test_nothing_heavy_is_imported():
    heavy = {"grain", "tyro", "orbax", "matplotlib", "sklearn", "torch"}
    names = ", ".join(f"profiling.{name}" for name in profiling.NAMES)
    code = f"import sys, {names}; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=FOLDER.parent)
