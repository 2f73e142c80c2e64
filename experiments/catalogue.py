"""What each experiment is, read from its file: nothing is imported, nothing runs."""

import ast
import difflib
import importlib.util
import inspect
import pathlib
from collections.abc import Iterable
from typing import NamedTuple

import experiments
from rl_jax.errors import UsageError


class Entry(NamedTuple):
    """An experiment as its file says it.

    Attributes:
      name: of the file.
      section: of the text, "" where the file cannot be read.
      title: what the page calls it.
      claim: the first line of the docstring.
      text: the lines below it.
      caption: what the figure shows, of the docstring of `draw`.
      flags: keyword arguments of `run` with type and default, as written.
      help: the docstring of `run`.
    """

    name: str
    section: str = ""
    title: str = ""
    claim: str = ""
    text: str = ""
    caption: str = ""
    flags: tuple[str, ...] = ()
    help: str = ""


def find(names: Iterable[str]) -> list[str]:
    """The names asked for in the order of the text; all where none is.

    Raises:
      UsageError: a name that is no experiment's, with those near it.
    """
    asked = dict.fromkeys(names)
    for name in asked:
        if name not in experiments.NAMES:
            near = difflib.get_close_matches(name, experiments.NAMES, n=3, cutoff=0.4)
            hint = f"did you mean {' or '.join(near)}?" if near else "none is near it;"
            raise UsageError(
                f"experiments: there is no {name!r}; {hint} see rl-jax experiments "
                "--list"
            )
    return [name for name in experiments.NAMES if not asked or name in asked]


def read(name: str) -> Entry:
    """The entry of a name; an empty one where there is no file that can be read."""
    try:
        spec = importlib.util.find_spec(f"experiments.{name}")
        assert spec is not None
        assert spec.origin is not None
        tree = ast.parse(pathlib.Path(spec.origin).read_text(encoding="utf-8"))
    except (AssertionError, OSError, SyntaxError, ValueError):
        return Entry(name)
    claim, _, text = (ast.get_docstring(tree) or "").partition("\n")
    run, draw = _function(tree, "run"), _function(tree, "draw")
    return Entry(
        name,
        section=_constant(tree, "SECTION"),
        title=_constant(tree, "TITLE"),
        claim=claim,
        text=inspect.cleandoc(text),
        caption=" ".join(_docstring(draw).partition("\n\n")[0].split()),
        flags=tuple(_flags(run)),
        help=_docstring(run),
    )


def _function(tree: ast.Module, name: str) -> ast.FunctionDef | None:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return node
    return None


def _docstring(function: ast.FunctionDef | None) -> str:
    return "" if function is None else ast.get_docstring(function) or ""


def _constant(tree: ast.Module, name: str) -> str:
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return str(ast.literal_eval(node.value))
    return ""


def _flags(function: ast.FunctionDef | None) -> Iterable[str]:
    if function is None:
        return
    given = function.args
    for argument, default in zip(given.kwonlyargs, given.kw_defaults, strict=True):
        kind = "" if argument.annotation is None else ast.unparse(argument.annotation)
        usual = "" if default is None else f" = {ast.unparse(default)}"
        yield f"--{argument.arg.replace('_', '-')} {kind}{usual}"
