"""Flags from the factories' own signatures and docstrings, with tyro."""

import contextlib
import functools
import inspect
import io
import itertools
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

from rl_jax.errors import UsageError

# `rl_jax.run` waits until flags are made of factories: it imports jax.


def parse(function: Callable, *, prog: str, argv: Sequence[str]) -> Any:
    """Parses `argv` by the signature of `function` and calls it.

    Raises:
      UsageError: for flags that do not parse.
    """
    import tyro

    # The call comes after parsing, so that only what tyro says is caught.
    @functools.wraps(function)
    def arguments(**given):
        return given

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            given = tyro.cli(arguments, prog=prog, args=list(argv))
    except SystemExit as stopped:
        if not stopped.code:
            raise
        raise UsageError(refusal(said.getvalue(), prog)) from None
    return function(**given)


def check_pattern(argv: Sequence[str]) -> None:
    """Refuses what a shell has made of a pattern of tars, with the remedy.

    Raises:
      UsageError: for more than one tar after `--data`.
    """
    for at, word in enumerate(argv):
        rest = list(itertools.takewhile(lambda w: w[:1] != "-", argv[at + 1 :]))
        if word == "--data" and len(rest) > 1 and rest[1].endswith(".tar"):
            raise UsageError(
                f"--data: got {len(rest)} values, {rest[0]} and others; name the "
                "folder, or put the pattern in quotes: 'train-{000..099}.tar'"
            )


def refusal(box: str, prog: str) -> str:
    """What tyro says in a box of several lines, in one.

    Its first part says what is wrong, the last where the help is, those between how
    the flag, or one like it, is written; tyro has no public way to get at them.
    """
    text = re.sub(r"\x1b\[[0-9;]*m", "", box).partition("\n")[2]
    lines = [line.strip(" │") for line in text.splitlines()]
    ruled = itertools.groupby(lines, key=lambda line: bool(line.strip("─-╰╯")))
    parts = [list(part) for is_text, part in ruled if is_text] or [["cannot parse"]]
    wrong = " ".join(parts[0]).rstrip(".")
    flags = [line for part in parts[1:-1] for line in part if line.startswith("-")]
    if flags and wrong.startswith("Unrecognized"):
        wrong = f"{wrong}; did you mean {flags[0].split()[0]}?"
    elif flags:
        wrong = f"{wrong}; expected {flags[0]}"
    return f"{wrong[:1].lower()}{wrong[1:]}; see {prog} --help"


def choice(factories: Sequence[Callable]) -> Any:
    """The type of a flag whose values are the names of `factories`."""
    return Literal[tuple(f.__name__ for f in factories)]  # type: ignore[misc]


def group(
    factory: Callable,
    name: str,
    defaults: Mapping[str, Any],
    *,
    without: Sequence[str] = (),
) -> Any:
    """The type of a group of flags `--name.argument`, one for each of the factory's.

    Arguments in `without` are not flags: the run fills them in. The parsed value is a
    `Spec`.

    Raises:
      UsageError: for an argument that could get no value.
    """
    import tyro

    from rl_jax.run.recipe import Spec

    constructor = _constructor(factory, defaults, without)
    return Annotated[Spec, tyro.conf.arg(name=name, constructor=constructor)]


def signature(
    function: Callable, parameters: Mapping[str, tuple[Any, Any]]
) -> Callable:
    """`function(**arguments)` with the given `{name: (type, default)}` as signature."""
    built = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=default
        )
        for name, (kind, default) in parameters.items()
    ]
    function.__signature__ = inspect.Signature(built)  # type: ignore[attr-defined]
    function.__annotations__ = {p.name: p.annotation for p in built}
    return function


def _constructor(
    factory: Callable, defaults: Mapping[str, Any], without: Sequence[str]
) -> Callable:
    from rl_jax.run.recipe import Spec, check_held

    hints = typing.get_type_hints(factory)

    def make(**arguments) -> Spec:
        return Spec(factory.__name__, arguments)

    parameters = {}
    for p in inspect.signature(factory).parameters.values():
        default = defaults.get(p.name, p.default)
        if p.name in without or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
            continue
        if default is p.empty:
            raise UsageError(
                f"{factory.__name__}: {p.name} has no default, and nothing gives it a "
                f"value; write a default, which makes it a flag, or one of the names "
                f"that a run fills in: {', '.join(without) or 'none here'}"
            )
        if p.name not in hints:
            raise UsageError(
                f"{factory.__name__}: {p.name} has no annotation, so that no flag can "
                f"be made of it; write {p.name}: {type(default).__name__} = ..."
            )
        check_held(Spec(factory.__name__, {p.name: default}))
        parameters[p.name] = (hints[p.name], default)
    make.__name__ = factory.__name__
    make.__doc__ = one_name_each(inspect.getdoc(factory) or "")
    return signature(make, parameters)


def one_name_each(docstring: str) -> str:
    """Writes `a, b: text` in a docstring as two entries, as tyro reads them."""

    def split(match: re.Match) -> str:
        indent, names, text = match.groups()
        return "\n".join(f"{indent}{name}: {text}" for name in names.split(", "))

    entry = re.compile(r"^( +)(\w+(?:, \w+)+): (.*(?:\n\1 +.*)*)", re.MULTILINE)
    return entry.sub(split, docstring)
