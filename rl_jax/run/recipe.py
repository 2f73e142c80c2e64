"""What a run is made of: the names and arguments of factories, as JSON can hold them.

`run.json` holds a recipe with every argument resolved; resume, evaluate, embed and
report rebuild the run by calling the same factories with the same arguments.
"""

import inspect
import json
import os
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from rl_jax import data, methods, networks, train
from rl_jax.augment import presets as augmentations
from rl_jax.errors import UsageError
from rl_jax.types import Augment, Method

FORMAT = 1

ENCODERS = (networks.convnet, networks.mlp, networks.resnet)
OPTIMIZERS = (train.adamw, train.lars, train.sgd)
METHODS = tuple(
    getattr(methods, name)
    for name in methods.__all__
    if "encoder" in inspect.signature(getattr(methods, name)).parameters
)
AUGMENTS = tuple(getattr(augmentations, name) for name in augmentations.__all__)
DATA = (data.digits, data.npz, data.folder)


class Spec(NamedTuple):
    """A factory by name, and its keyword arguments."""

    factory: str
    arguments: dict[str, Any]

    def given(self, **arguments) -> "Spec":
        """The same factory with other values of these arguments."""
        return self._replace(arguments=self.arguments | arguments)


class Recipe(NamedTuple):
    """Everything that decides the result of a run.

    Attributes:
      data, augment, encoder, projector, method, optimizer: the factories.
      predictor: of methods that have one, else None.
      steps: optimizer steps of the whole run.
      batch_size: examples of one step over all devices.
      seed: of initialisation, order and noise.
      probe: train an online linear probe where there are labels.
      log_every, checkpoint_every: in steps.
    """

    data: Spec
    augment: Spec
    encoder: Spec
    projector: Spec
    predictor: Spec | None
    method: Spec
    optimizer: Spec
    steps: int
    batch_size: int
    seed: int
    probe: bool
    log_every: int
    checkpoint_every: int


class Parts(NamedTuple):
    """What a recipe builds."""

    source: data.Source
    augment: Augment
    method: Method
    optimizer: Any


def find(factories: tuple[Callable, ...], name: str, what: str) -> Callable:
    """The factory called `name`.

    Raises:
      UsageError: naming the ones there are.
    """
    for factory in factories:
        if factory.__name__ == name:
            return factory
    known = ", ".join(f.__name__ for f in factories)
    raise UsageError(f"unknown {what} {name!r}; there are: {known}")


def call(factory: Callable, *parts, **arguments) -> Any:
    """What the factory makes of its arguments.

    Raises:
      UsageError: for arguments it does not have, or lacks, as a run of another version
        may hold them.
    """
    try:
        inspect.signature(factory).bind(*parts, **arguments)
    except TypeError as error:
        raise UsageError(
            f"{factory.__name__}: {error}; use the version of rl_jax in run.json"
        ) from None
    return factory(*parts, **arguments)


def resolve(factory: Callable, **arguments) -> Spec:
    """The spec of a call with every default written out."""
    parameters = inspect.signature(factory).parameters.values()
    defaults = {
        p.name: p.default
        for p in parameters
        if p.default is not inspect.Parameter.empty
    }
    return Spec(factory.__name__, defaults | arguments)


def data_spec(name: str, *, size: int | None = None) -> Spec:
    """The data set a user names: a built-in one, an .npz or .npy file, or a folder.

    Images of a folder are decoded to `size` pixels, 256 unless said.

    Raises:
      UsageError: for a name that is none of them.
    """
    if name == "digits":
        return resolve(data.digits)
    path = pathlib.Path(name).expanduser()
    if path.is_dir():
        return resolve(data.folder, path=str(path.absolute()), size=size or 256)
    if path.suffix in (".npz", ".npy"):
        return resolve(data.npz, path=str(path.absolute()))
    kind = (
        "not a folder of images or an .npz file" if path.exists() else "does not exist"
    )
    raise UsageError(
        f"--data {name}: {kind}; expected 'digits', a folder of images, or the path of "
        "an .npz or .npy file"
    )


def build_source(spec: Spec) -> data.Source:
    """Opens a data set."""
    return call(find(DATA, spec.factory, "data set"), **spec.arguments)


def with_batch_size(recipe: Recipe, batch_size: int) -> Recipe:
    """The same run with another batch size, the learning rate scaled accordingly."""
    optimizer = recipe.optimizer.given(batch_size=batch_size)
    return recipe._replace(batch_size=batch_size, optimizer=optimizer)


def build(recipe: Recipe, source: data.Source) -> Parts:
    """Calls the factories of a recipe.

    Raises:
      UsageError: whatever a factory says about its arguments.
    """
    build_one = {
        name: call(find(factories, spec.factory, name), **spec.arguments)
        for name, factories, spec in (
            ("augmentation", AUGMENTS, recipe.augment),
            ("encoder", ENCODERS, recipe.encoder),
            ("optimizer", OPTIMIZERS, recipe.optimizer),
        )
    }
    parts = [
        build_one["encoder"],
        call(networks.projection_head, **recipe.projector.arguments),
    ]
    if recipe.predictor is not None:
        parts.append(call(networks.prediction_head, **recipe.predictor.arguments))
    factory = find(METHODS, recipe.method.factory, "method")
    method = call(factory, *parts, **recipe.method.arguments)
    if recipe.probe and has_labels(source):
        method = methods.with_probe(method, num_classes=num_classes(source))
    return Parts(source, build_one["augmentation"], method, build_one["optimizer"])


def has_labels(source: data.Source) -> bool:
    """Whether at least two classes are labelled."""
    labels = source.labels
    return labels is not None and len(np.unique(labels[labels >= 0])) >= 2


def num_classes(source: data.Source) -> int:
    """One more than the largest label there may be; some may not occur."""
    assert source.labels is not None
    return max(len(source.class_names), int(source.labels.max(initial=-1)) + 1)


def write(recipe: Recipe, path: pathlib.Path, **notes) -> None:
    """Writes a recipe and notes about it (versions, command) to `path`, atomically."""
    content = {"format": FORMAT, "recipe": _to_json(recipe)} | notes
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(draft, path)


def read(path: pathlib.Path) -> tuple[Recipe, dict[str, Any]]:
    """The recipe in a file, and the notes beside it.

    Raises:
      UsageError: when it is missing, not JSON, not a recipe, or of a newer format.
    """
    try:
        content = json.loads(path.read_text())
        if content["format"] > FORMAT:
            raise UsageError(
                f"{path}: format {content['format']}, this version reads up to "
                f"{FORMAT}; use a newer rl_jax"
            )
        fields = content.pop("recipe")
        for name, value in fields.items():
            if isinstance(value, dict):
                arguments = {k: _tuples(v) for k, v in value["arguments"].items()}
                fields[name] = Spec(value["factory"], arguments)
        return Recipe(**fields), content
    except OSError as error:
        raise UsageError(
            f"{path.parent} is not a run: no {path.name} there ({error.strerror}); "
            "expected a folder made by `rl-jax pretrain`"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"{path} cannot be read as a run: {error}") from None


def _to_json(recipe: Recipe) -> dict[str, Any]:
    return {
        name: value._asdict() if isinstance(value, Spec) else value
        for name, value in recipe._asdict().items()
    }


def _tuples(value):
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
