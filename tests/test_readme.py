"""What README and CONTRIBUTING show and name: examples run, numbers and paths hold."""

import importlib
import json
import pathlib
import re
import sys

import numpy as np
import pytest

from rl_jax import run
from rl_jax.cli import main

ROOT = pathlib.Path(__file__).parent.parent
TEXTS = ("README.md", "CONTRIBUTING.md")
WRITTEN = {
    "evaluation.json", "export.json", "results.json", "run.json", "vocabulary.json",
    "runs/", "runs/experiments/atlas.html",
}  # fmt: skip
"""What commands write, in the user's folders."""
NO_NAMES = {"lax.map"}


def snippets(text):
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def test_examples():
    text = (ROOT / "README.md").read_text()
    own, measures, training, losses = snippets(text)
    assert own.startswith("# mynets.py")
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
    assert scope["low"] <= scope["rank"] < scope["high"]


def test_an_own_network(tmp_path, monkeypatch, capsys):
    """The file and the command that are shown, with flags that make it short."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    text = (ROOT / "README.md").read_text()
    (tmp_path / "mynets.py").write_text(snippets(text)[0])
    command = re.search(r"    rl-jax (pretrain .*mynets:small.*)\n", text)
    assert command is not None
    short = ["--steps", "1", "--batch-size", "8", "--no-evaluate"]
    try:
        main([*command[1].split(), *short])
        assert run.load("runs/small").parts.method.encode is not None
    finally:
        sys.modules.pop("mynets", None)
    recipe = json.loads((tmp_path / "runs" / "small" / "run.json").read_text())[
        "recipe"
    ]
    encoder = {"factory": "mynets:small", "arguments": {"width": 32}}
    assert recipe["networks"]["encoder"] == encoder
    later = re.search(r"    rl-jax evaluate (runs/small --import mynets)", text)
    assert later is not None


def quoted(text):
    """What stands in backticks, outside of blocks of code."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def files_of_the_repository():
    """Paths of the files that are ours and of their folders, with a slash before each.

    NAME in a text stands for any.
    """
    folders = ["rl_jax", "tests", "experiments", "profiling", ".ci"]
    found = [p for f in folders for p in (ROOT / f).rglob("*")] + list(ROOT.glob("*"))
    found = [p for p in found if "__pycache__" not in p.parts]
    paths = {f"/{p.relative_to(ROOT)}" + "/" * p.is_dir() for p in found}
    return "\n".join(sorted(paths | {f"/{folder}/" for folder in folders}))


def missing(text, known):
    """The paths in backticks, and those of links, that no file or folder ends in."""
    is_path = re.compile(r"[\w./-]+/|(?:[\w.-]+/)*[\w-]+\.(?:py|md|json|html|txt|png)")
    named = [word for word in quoted(text) if is_path.fullmatch(word)]
    links = re.findall(r"\]\((?!http)([^)#]+)\)", text)
    return [
        word
        for word in [*named, *links]
        if word not in WRITTEN
        and not re.search(
            f"/{re.escape(word).replace('NAME', '[a-z_]+')}/?$", known, re.MULTILINE
        )
    ]


@pytest.mark.parametrize("name", TEXTS)
def test_files_and_folders_that_are_named_exist(name):
    text = (ROOT / name).read_text()
    known = files_of_the_repository()
    assert missing(text, known) == []
    wrong = "`run/presets.py`, `experiments/`, `no/`, [here](profiling/none.md)"
    assert missing(wrong, known) == ["run/presets.py", "no/", "profiling/none.md"]


def test_names_that_contributing_has_can_be_imported():
    """`run.recipe.ROLES` and the like, of the package or of the experiments."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    folders = {p.name for p in (ROOT / "rl_jax").iterdir()}
    names = [
        word
        for word in quoted(text)
        if re.fullmatch(r"[a-z_]+(?:\.\w+)+", word)
        and not word.endswith(".py")
        and word not in NO_NAMES
    ]
    assert len(names) > 5
    for name in names:
        path, _, last = name.rpartition(".")
        first = path.partition(".")[0]
        path = {"experiments": path, "measures": f"rl_jax.run.{path}"}.get(
            first, f"rl_jax.{path}"
        )
        assert first in folders | {"experiments", "measures"}, name
        module = importlib.import_module(path)
        assert hasattr(module, last) or importlib.import_module(f"{path}.{last}"), name


def test_no_file_of_the_package_is_longer_than_contributing_says():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    (most,) = re.findall(r"none of the package has more than (\d+)", text)
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for path in (ROOT / "rl_jax").rglob("*.py")
    }
    assert len(lengths) > 200
    assert {k: n for k, n in lengths.items() if n > int(most)} == {}


def test_make_has_the_targets_that_are_named():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for name in TEXTS:
        text = (ROOT / name).read_text()
        named = re.findall(r"(?:^    |`)make ([a-z-]+)", text, re.MULTILINE)
        assert set(named) <= set(targets), name


@pytest.mark.slow
def test_the_plan_is_what_the_command_prints(capsys, monkeypatch):
    """All but what the compiler decides: temporary memory and bytes moved."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    text = (ROOT / "README.md").read_text()
    shown = re.search(r"    \$ rl-jax (plan .*)\n((?:    .*\n|\n)+)", text)
    assert shown is not None
    main(shown[1].split())
    decided = re.compile(
        r"(activations|total|bytes (moved|at)|a step takes|[\d,]+ steps|fits)"
    )

    def lines(printed):
        found = [line.strip() for line in printed.splitlines()]
        return [line for line in found if line and not decided.match(line)]

    found = lines(capsys.readouterr().out)
    assert lines(shown[2]) == found
    kept = " ".join(found)
    for part in ("parameters", "optimizer state", "data held", "products", "rates"):
        assert part in kept
