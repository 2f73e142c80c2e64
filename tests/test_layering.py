"""Dependencies point down only."""

import ast
import collections
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent / "rl_jax"
RANKS = {
    "types": 0,
    "errors": 0,
    "files": 0,
    "verdicts": 0,
    "own": 1,
    "pairwise": 1,
    "losses": 2,
    "networks": 2,
    "augment": 2,
    "memory": 2,
    "theory": 2,
    "methods": 3,
    "data": 4,
    "evaluate": 4,
    "train": 5,
    "run": 6,
    "report": 7,
    "cli": 8,
}
ALONE = {"flax": "networks", "grain": "data", "orbax": "train/checkpoint.py"}


def imported(path):
    """Every module a file imports, as dotted names."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "rl_jax":
                yield from (f"rl_jax.{alias.name}" for alias in node.names)
            else:
                yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


FILES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path):
    here = path.relative_to(ROOT).parts[0].removesuffix(".py")
    for name in imported(path):
        first, *rest = name.split(".")
        if first == "rl_jax" and rest and rest[0] in RANKS and here != "__init__":
            there = rest[0]
            assert here == there or RANKS[there] < RANKS[here], f"imports {name}"
        if first in ALONE:
            assert str(path.relative_to(ROOT)).startswith(ALONE[first]), name


def test_every_folder_has_a_rank():
    found = {p.stem for p in ROOT.glob("*.py")} | {
        p.name for p in ROOT.iterdir() if (p / "__init__.py").exists()
    }
    assert found - {"__init__"} == set(RANKS)


def test_files_of_tests_have_names_of_their_own():
    """Pytest imports each by its name alone: two that share one are not collected."""
    found = collections.Counter(p.name for p in ROOT.parent.glob("tests/**/test_*.py"))
    assert [name for name, count in found.items() if count > 1] == []
