"""Factories of a user's own, by `module:function`; imported at the user's word alone.

A run's folder may come from anybody. What its `run.json` names is therefore used only
where the program has imported that module already, and only a function whose return
annotation says that it makes what is asked for.
"""

import contextlib
import functools
import hashlib
import importlib
import inspect
import itertools
import os
import pathlib
import shlex
import sys
import sysconfig
import traceback
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from rl_jax import files
from rl_jax.errors import RunError, UsageError


class NotImportedError(UsageError):
    """A run names modules that the program has not imported.

    Attributes:
      what: the first half of the message: which names these are.
      modules: that hold them.
    """

    def __init__(self, names: Iterable[str], where: str):
        names = list(names)
        self.modules = list(dict.fromkeys(name.partition(":")[0] for name in names))
        self.what = (
            f"{where}: made with own code, {', '.join(names)}, and what a run's "
            "folder names is not imported"
        )
        known = ", ".join(self.modules)
        super().__init__(f"{self.what}; if you trust it, first: import {known}")


def _module(name: str) -> types.ModuleType | None:
    """The module of a factory, if it has been imported.

    None too for one of another class, or lazy: to look at it may import.
    """
    module = sys.modules.get(name.partition(":")[0])
    return module if type(module) is types.ModuleType else None


def _contents(name: str) -> dict[str, Any]:
    """What that module has; by getattr some would import what they do not have yet."""
    module = _module(name)
    return {} if module is None else vars(module)


def is_own(name: Any) -> bool:
    """Whether this is `module:function`, and no name of a factory of the library."""
    if not isinstance(name, str):
        return False
    module, _, function = name.partition(":")
    return all(word.isidentifier() for word in (*module.split("."), function))


def import_module(module: str) -> None:
    """Imports a module that the user has named; of the current folder, or installed.

    Raises:
      UsageError: where there is none, or it cannot be imported.
    """
    # At the end, so that no file here takes the place of what rl_jax imports later.
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.append(os.getcwd())
    if not is_own(f"{module}:f"):
        raise UsageError(
            f"--import {module}: expected a module, as mynets of mynets.py"
        )
    with _in_one_line(f"module {module}"):
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            if not f"{module}.".startswith(f"{error.name}."):
                raise
            raise UsageError(
                f"there is none, neither in {os.getcwd()} nor installed; for code in "
                "mynets.py the name is mynets"
            ) from None


def import_of(name: str | None) -> None:
    """Imports the module of a factory that the user has typed; any other is let be."""
    if name is not None and is_own(name):
        import_module(name.partition(":")[0])


def factory(name: str, makes: type) -> Callable[..., Any]:
    """The function of that name, of a module that has been imported.

    Args:
      name: `module:function`.
      makes: what its return annotation must be.

    Returns:
      The function; it is called `name`, and whatever it raises is a UsageError.

    Raises:
      NotImportedError: the module is none that the program has imported.
      UsageError: there is no such function, or it makes something else.
    """
    module_name, _, function_name = name.partition(":")
    if module_name.partition(".")[0] == "rl_jax":
        raise UsageError(f"{name} is no own code; name factories of rl_jax alone")
    if _module(name) is None:
        raise NotImportedError([name], "the run")
    function = _contents(name).get(function_name)
    if not inspect.isfunction(function):
        raise UsageError(
            f"{name}: there is no function {function_name} in "
            f"{_contents(name).get('__file__', module_name)}"
        )
    with _in_one_line(f"{name}: its annotations"):
        found = typing.get_type_hints(function).get("return")
    if not (inspect.isclass(found) and issubclass(found, makes)):
        said = getattr(found, "__name__", found)
        raise UsageError(
            f"{name} {'has no return annotation' if found is None else f'makes {said}'}"
            f"; expected a function with -> {makes.__name__}"
        )

    @functools.wraps(function)
    def made(*parts, **arguments):
        with _in_one_line(name):
            result = function(*parts, **arguments)
        if not isinstance(result, makes):
            kind = type(result).__name__
            raise UsageError(f"{name} returned {kind}, expected {makes.__name__}")
        return result

    made.__name__ = made.__qualname__ = name
    return made


@contextlib.contextmanager
def _in_one_line(what: str) -> Iterator[None]:
    """Whatever is raised, with the line of the user's that was being run."""
    try:
        yield
    except RunError as error:
        raise UsageError(f"{what}: {error}") from error
    except (Exception, SystemExit) as error:
        ours = ("<", str(pathlib.Path(__file__).parent))
        frames = [
            frame
            for frame in traceback.extract_tb(error.__traceback__)
            if not frame.filename.startswith(ours)
        ]
        installed = tuple(sysconfig.get_paths()[k] for k in ("stdlib", "purelib"))
        theirs = [f for f in frames if not f.filename.startswith(installed)]
        raise _said(what, error, (theirs or frames)[-1:]) from error


@contextlib.contextmanager
def one_line(names: Sequence[str]) -> Iterator[None]:
    """Makes one line of what the functions of own code raise, and of nothing else.

    Args:
      names: of own factories, whose modules are imported.
    """
    try:
        yield
    except RunError:
        raise
    except Exception as error:
        paths = [_contents(name).get("__file__") for name in names]
        frames = traceback.extract_tb(error.__traceback__)
        theirs = [frame for frame in frames if frame.filename in paths]
        if not theirs:
            raise
        raise _said("own code", error, theirs[-1:]) from error


def _said(what: str, error: BaseException, frames: Sequence) -> UsageError:
    where = "".join(f" ({f.filename}, line {f.lineno})" for f in frames)
    return UsageError(f"{what}: {type(error).__name__}: {error}{where}")


def names(recipe: Any) -> list[str]:
    """The own factories in the JSON of a recipe; none in what is no recipe."""
    try:
        parts = [*recipe.values(), *recipe.get("networks", {}).values()]
    except (AttributeError, TypeError):
        return []
    found = [part.get("factory") for part in parts if isinstance(part, dict)]
    return list(dict.fromkeys(name for name in found if is_own(name)))


def _names_in(folder: pathlib.Path) -> list[str]:
    try:
        return names(files.read_json(folder / "run.json")["recipe"])
    except (OSError, ValueError, LookupError, TypeError):
        return []


def require(*folders: pathlib.Path) -> None:
    """Refuses runs whose own code the program has not imported.

    Raises:
      NotImportedError: naming all of it.
    """
    found = {folder: _names_in(folder) for folder in folders}
    lacking = {f: [n for n in names if not _module(n)] for f, names in found.items()}
    lacking = {str(folder): names for folder, names in lacking.items() if names}
    if lacking:
        names = list(dict.fromkeys(itertools.chain(*lacking.values())))
        raise NotImportedError(names, " and ".join(lacking))


def again(command: str, folder: pathlib.Path) -> str:
    """`rl-jax COMMAND FOLDER`, with the modules that the run needs imported."""
    modules = dict.fromkeys(name.partition(":")[0] for name in _names_in(folder))
    return shlex.join(["rl-jax", command, str(folder), *flags(modules)])


def flags(modules: Iterable[str]) -> list[str]:
    """`--import` for each of the modules."""
    return [word for module in modules for word in ("--import", module)]


def digests(names: Iterable[str]) -> dict[str, str]:
    """SHA-256 of the file of each module, also of one a function was taken over from.

    Args:
      names: of own factories, whose modules are imported.
    """
    modules = set()
    for name in names:
        module, _, function = name.partition(":")
        found = _contents(name).get(function)
        modules |= {module, found.__module__} if inspect.isfunction(found) else {module}
    paths = {module: _contents(module).get("__file__") for module in sorted(modules)}
    return {
        module: hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()
        for module, path in paths.items()
        if path and os.path.isfile(path)
    }


def change(notes: dict[str, Any], now: dict[str, str]) -> str | None:
    """Which modules are not what the run started with, in a few words, or None.

    Args:
      notes: of `run.json`.
      now: what `digests` gives.
    """
    before = notes.get("own", {})
    changed = [m for m in now if before.get(m, now[m]) != now[m]]
    return ", ".join(str(_contents(m)["__file__"]) for m in changed) or None
