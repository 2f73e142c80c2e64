"""Which data set a user means."""

import functools
import inspect
import pathlib
import re
from collections.abc import Callable
from typing import Any, Literal

from rl_jax import data, own
from rl_jax.errors import UsageError
from rl_jax.run.recipe import Spec, call, find, resolve, roles

Kind = Literal["images", "captions", "text", "sequences", "segments"]

BUILT_IN = (
    data.digits,
    data.topics,
    data.ica,
    data.latent_classes,
    data.oscillators,
    data.strokes,
)
OF_TEXTS = ("bert", "simcse")
OF_A_PATH = (
    data.npz,
    data.folder,
    data.shards,
    data.hugging_face,
    data.captioned,
    data.text,
)


def kind(method: Callable) -> Kind:
    """What a method learns from, by its name or the parameters of its factory."""
    if method.__name__ in OF_TEXTS:
        return "text"
    parameters = inspect.signature(method).parameters
    if "text" in roles(method):
        return "captions"
    if "context" in roles(method):
        return "sequences"
    return "segments" if "num_segments" in parameters else "images"


def default(kind: Kind) -> str:
    """The name of the data set that needs no files."""
    names = {"text": "topics", "sequences": "oscillators", "segments": "ica"}
    return names.get(kind, "digits")


def chosen(name: str, kind: Kind) -> tuple[Callable, dict[str, Any]]:
    """The factory of the data set a user names, and the arguments the name decides.

    Args:
      name: of a built-in data set, the path of a folder or file, or `module:function`,
        whose module is imported.
      kind: what is wanted of it.

    Raises:
      UsageError: for a name that is none of them.
    """
    path = pathlib.Path(name).expanduser()
    known = BUILT_IN
    if own.is_own(name) and not path.exists():
        own.import_of(name)
        known = (find(BUILT_IN, name, "data set"),)
    for factory in known:
        if factory.__name__ == name:
            wanted = {"captions": True} if kind == "captions" else {}
            given = inspect.signature(factory).parameters
            return factory, {k: v for k, v in wanted.items() if k in given}
    where = {"path": str(path.absolute())}
    if kind == "text" and (path.is_dir() or path.suffix in (".txt", ".md")):
        return data.text, where
    readers = {
        "folder": data.folder,
        "shards": data.shards,
        "hugging_face": data.hugging_face,
    }
    if layout := data.layout(path):
        return data.captioned if kind == "captions" else readers[layout], where
    if path.suffix in (".npz", ".npy"):
        return data.npz, where
    problem = "cannot be read as data" if path.exists() else "does not exist"
    is_of_hub = _HUB.fullmatch(name) and not path.exists()
    names = ", ".join(factory.__name__ for factory in BUILT_IN)
    raise UsageError(
        f"--data {name}: {problem}; expected one of {names}, a folder of images, "
        "tar shards (their folder, a .tar, {000..099}.tar), a dataset of Hugging Face "
        "(of save_to_disk, or Parquet), an .npz or .npy file, a folder with "
        "captions.csv for image and text, a text file, or MODULE:FUNCTION of your own"
        + (_FROM_THE_HUB.format(name) if is_of_hub else "")
    )


_HUB = re.compile(r"[\w-]+(/[\w-]+)?")
"""What may be the name of a dataset there."""
_FROM_THE_HUB = (
    "; nothing is read from the network: what is on the Hugging Face Hub save first, "
    "datasets.load_dataset({!r}).save_to_disk(FOLDER)"
)


SMALLEST = 8
"""Pixels below which images are not decoded unless asked to."""


def usual(factory: Callable, decided: dict[str, Any]) -> dict[str, Any]:
    """The options of a data set that follow from its files.

    Images are not decoded to more pixels than they have.

    Args:
      factory, decided: as `chosen` gives them.
    """
    size = inspect.signature(factory).parameters.get("size")
    side = data.usual_side(decided["path"]) if size and "path" in decided else None
    if size is None or side is None:
        return {}
    return {"size": min(size.default, max(side, SMALLEST))}


def spec_of(name: str, kind: Kind = "images", **arguments) -> Spec:
    """The spec of the data set a user names; `arguments` beside the name's own."""
    factory, decided = chosen(name, kind)
    return resolve(factory, **decided, **arguments)


def choices(spec: Spec) -> list[str]:
    """What was chosen of a path that holds more than is read, a line each."""
    readers = (data.folder, data.shards, data.hugging_face)
    path = spec.arguments.get("path")
    if path is None or spec.factory not in [reader.__name__ for reader in readers]:
        return []
    return data.choices(path)


def factory(spec: Spec) -> Callable | None:
    """The factory of a data set that is known here; None for an imagined one."""
    known = (*BUILT_IN, *OF_A_PATH)
    if own.is_own(spec.factory):
        return find(known, spec.factory, "data set")
    return next((f for f in known if f.__name__ == spec.factory), None)


def opener(spec: Spec) -> Callable[[], data.Source]:
    """What opens a data set; of a name that is none there is nothing to open."""
    factory = find((*BUILT_IN, *OF_A_PATH), spec.factory, "data set")
    return functools.partial(_opened, factory, **spec.arguments)


def _opened(factory: Callable, **arguments) -> data.Source:
    source = call(factory, **arguments)
    if own.is_own(factory.__name__):
        data.check_source(source)
    return source


def build(spec: Spec) -> data.Source:
    """Opens a data set."""
    return opener(spec)()
