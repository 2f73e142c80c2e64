"""What a run is made of: the names and arguments of factories, as JSON can hold them.

`run.json` holds a recipe with every argument resolved; resume, evaluate, embed and
report rebuild the run by calling the same factories with the same arguments.
"""

import inspect
import json
import math
import pathlib
import typing
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import optax

from rl_jax import data, files, methods, networks, own, train
from rl_jax.augment import presets as augmentations
from rl_jax.errors import UsageError
from rl_jax.run import init_from
from rl_jax.run.init_from import InitFrom
from rl_jax.types import Augment, Method, Network

FORMAT = 2

ROLES: dict[str, tuple[Callable, ...]] = {
    "encoder": (
        networks.convnet,
        networks.mlp,
        networks.resnet,
        networks.vit,
        networks.text_transformer,
    ),
    "projector": (networks.projection_head,),
    "predictor": (networks.prediction_head, networks.jepa_predictor),
    "decoder": (networks.mlp_decoder, networks.conv_decoder, networks.mae_decoder),
    "head": (networks.task_head,),
    "text": (networks.text_transformer,),
    "context": (networks.gru,),
}
"""The factories of each network a method may take, by the name of its parameter."""


def roles(method: Callable) -> tuple[str, ...]:
    """The networks a method's factory takes, in order."""
    parameters = inspect.signature(method).parameters.values()
    return tuple(p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD)


OPTIMIZERS = (train.adamw, train.lars, train.sgd)
METHODS = tuple(
    factory
    for factory in (getattr(methods, name) for name in methods.__all__)
    if set(roles(factory)) <= set(ROLES)
)
AUGMENTS = tuple(getattr(augmentations, name) for name in augmentations.__all__)


class Spec(NamedTuple):
    """A factory by name, and its keyword arguments."""

    factory: str
    arguments: dict[str, Any]

    def given(self, **arguments) -> "Spec":
        """The same factory with other values of these arguments."""
        return self._replace(arguments=self.arguments | arguments)


def check_held(spec: Spec) -> None:
    """Refuses arguments of own code that `run.json` would not give back as they are.

    Raises:
      UsageError: naming the first.
    """
    arguments = spec.arguments if own.is_own(spec.factory) else {}
    for name, value in arguments.items():
        try:
            same = _argument(json.loads(json.dumps(value))) == value
        except (TypeError, ValueError):
            same = False
        if not same:
            raise UsageError(
                f"{spec.factory}: {name} is {value!r}, which run.json cannot hold; "
                "take a finite number, a bool, a text, or a tuple of them"
            )


class Recipe(NamedTuple):
    """Everything that decides the result of a run.

    Attributes:
      data, augment, method, optimizer: the factories.
      networks: those of the networks the method takes, by role.
      steps: optimizer steps of the whole run.
      batch_size: examples of one step over all devices.
      seed: of initialisation, order and noise.
      probe: train an online linear probe where there are labels.
      log_every, checkpoint_every: in steps.
      on_nonfinite, nonfinite_limit: what a step that is not finite leads to, as `fit`
        takes them.
      labels: those training may see: so many of each class, as 10, that part of them,
        as 1%, or all.
      init_from: where the encoder's weights come from; None: they are random.
      knn_every: steps between two scores by k-NN, a multiple of `log_every`; 0: none.
    """

    data: Spec
    augment: Spec
    networks: dict[str, Spec]
    method: Spec
    optimizer: Spec
    steps: int
    batch_size: int
    seed: int
    probe: bool
    log_every: int
    checkpoint_every: int
    on_nonfinite: str = "halt"
    nonfinite_limit: int = 10
    labels: str = "all"
    init_from: InitFrom | None = None
    knn_every: int = 0


class Parts(NamedTuple):
    """What a recipe builds."""

    source: data.Source
    augment: Augment
    method: Method
    optimizer: Any


def find(factories: tuple[Callable, ...], name: str, what: str) -> Callable:
    """The factory called `name`, or, of the kind of these, a user's own by that name.

    Raises:
      UsageError: naming the ones there are, or as `own.factory`.
    """
    for factory in factories:
        if factory.__name__ == name:
            return factory
    if own.is_own(name):
        return own.factory(name, _made_by(factories[0]))
    known = ", ".join(f.__name__ for f in factories)
    raise UsageError(
        f"unknown {what} {name!r}; there are: {known}, and MODULE:FUNCTION of your own"
    )


def find_method(name: str) -> Callable:
    """The factory of a method, as `find`; one of the user's takes known roles too."""
    factory = find(METHODS, name, "method")
    for role in roles(factory):
        if role not in ROLES:
            raise UsageError(
                f"{name}: its parameter {role} is no network, which are: "
                f"{', '.join(ROLES)}; put it behind a *"
            )
    return factory


def _made_by(factory: Callable) -> type:
    """What an own factory in the place of this one must make."""
    made = typing.get_type_hints(factory)["return"]
    # Ours tell their learning rate besides; any of optax will do.
    any_optimizer = issubclass(made, optax.GradientTransformation)
    return optax.GradientTransformation if any_optimizer else made


def call(factory: Callable, *parts, **arguments) -> Any:
    """What the factory makes of its arguments.

    Raises:
      UsageError: for arguments it does not have, or lacks, or of another type, as a run
        of another version or an edited one may hold them.
    """
    try:
        inspect.signature(factory).bind(*parts, **arguments)
        return factory(*parts, **arguments)
    except TypeError as error:
        of = "its code" if own.is_own(factory.__name__) else "rl_jax"
        raise UsageError(
            f"{factory.__name__}: {error}; use the version of {of} in run.json"
        ) from None


def resolve(factory: Callable, **arguments) -> Spec:
    """The spec of a call with every default written out."""
    parameters = inspect.signature(factory).parameters.values()
    defaults = {
        p.name: p.default
        for p in parameters
        if p.default is not inspect.Parameter.empty
    }
    return Spec(factory.__name__, defaults | arguments)


def with_batch_size(recipe: Recipe, batch_size: int) -> Recipe:
    """The same run with another batch size, the learning rate scaled accordingly."""
    optimizer = recipe.optimizer
    if "batch_size" in optimizer.arguments:
        optimizer = optimizer.given(batch_size=batch_size)
    return recipe._replace(batch_size=batch_size, optimizer=optimizer)


def with_steps(recipe: Recipe, steps: int) -> Recipe:
    """The same run of another length; schedules that ended with it still do."""

    def stretched(spec: Spec) -> Spec:
        ended = spec.arguments.get("total_steps") == recipe.steps
        return spec.given(total_steps=steps) if ended else spec

    return recipe._replace(
        steps=steps,
        method=stretched(recipe.method),
        optimizer=stretched(recipe.optimizer),
    )


def build_augment(spec: Spec) -> Augment:
    """Calls the factory of an augmentation."""
    factory = find(AUGMENTS, spec.factory, "augmentation")
    return call(factory, **spec.arguments)


def build(
    recipe: Recipe,
    source: data.Source,
    *,
    encoder: Callable[[Network], Network] = lambda network: network,
) -> Parts:
    """Calls the factories of a recipe.

    Args:
      recipe: the factories.
      source: the data.
      encoder: what the method gets of the encoder; the encoder itself.

    Raises:
      UsageError: whatever a factory says about its arguments.
    """
    augment = build_augment(recipe.augment)
    factory = find_method(recipe.method.factory)
    parts = []
    for role in roles(factory):
        if role not in recipe.networks:
            raise UsageError(f"{recipe.method.factory}: the recipe has no {role}")
        spec = recipe.networks[role]
        network = call(find(ROLES[role], spec.factory, role), **spec.arguments)
        parts.append(encoder(network) if role == "encoder" else network)
    method = call(factory, *parts, **recipe.method.arguments)
    if recipe.probe and has_labels(source):
        method = methods.with_probe(method, num_classes=num_classes(source))
    optimizer = find(OPTIMIZERS, recipe.optimizer.factory, "optimizer")
    optimizer = call(optimizer, **recipe.optimizer.arguments)
    return Parts(source, augment, method, optimizer)


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
    content = {"format": FORMAT, "recipe": as_json(recipe)} | notes
    files.write_text(path, json.dumps(content, indent=1) + "\n")


NOTES = {
    **{"data": dict, "outline": dict, "dims": dict, "own": dict, "network": str},
    **{"sinks": list, "steps_before": list},
}
"""The notes beside a recipe that a run goes by, and what each is."""


def read(path: pathlib.Path) -> tuple[Recipe, dict[str, Any]]:
    """The recipe in a file, and the notes beside it.

    Raises:
      UsageError: when it is missing, too large, not JSON, not a recipe, or of a newer
        format.
    """
    try:
        content = files.read_json(path)
        if content["format"] > FORMAT:
            raise UsageError(
                f"{path}: format {content['format']}, this version reads up to "
                f"{FORMAT}; use a newer rl_jax"
            )
        for name, kind in NOTES.items():
            if not isinstance(content.get(name, kind()), kind):
                raise ValueError(f"its {name} is no {kind.__name__}")
        return parsed(content.pop("recipe"), content["format"]), content
    except OSError as error:
        raise UsageError(
            f"{path.parent} is not a run: no {path.name} there ({error.strerror}); "
            "expected a folder made by `rl-jax pretrain`"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"{path} cannot be read as a run: {error}") from None


def parsed(fields: dict[str, Any], version: int) -> Recipe:
    """The recipe of its JSON, of any format so far."""
    fields = dict(fields)
    if version == 1:
        roles = ("encoder", "projector", "predictor")
        nets = {role: fields.pop(role) for role in roles}
        fields["networks"] = {role: net for role, net in nets.items() if net}
    fields["networks"] = {k: _spec(v) for k, v in fields["networks"].items()}
    for name in ("data", "augment", "method", "optimizer"):
        fields[name] = _spec(fields[name])
    fields["init_from"] = init_from.parsed(fields.get("init_from"))
    recipe = Recipe(**fields)
    for name, kind in Recipe.__annotations__.items():
        value = getattr(recipe, name)
        if kind in (int, bool, str) and type(value) is not kind:
            raise ValueError(f"{name} is {value!r}, expected {kind.__name__}")
    return recipe


def _spec(value: dict[str, Any]) -> Spec:
    arguments = {name: _argument(v) for name, v in value["arguments"].items()}
    return Spec(value["factory"], arguments)


def _argument(value: Any, depth: int = 4) -> Any:
    """A value a factory takes: lists as tuples; none is so deep, or not finite."""
    if isinstance(value, dict) or (isinstance(value, list) and not depth):
        raise ValueError("an argument is nested too deeply")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"an argument is {value}, expected a finite number")
    if isinstance(value, list):
        return tuple(_argument(v, depth - 1) for v in value)
    return value


def as_json(recipe: Recipe) -> dict[str, Any]:
    """The recipe as nested dicts, which `json.dumps` takes."""

    def plain(value):
        if isinstance(value, Spec | InitFrom):
            return value._asdict()
        if isinstance(value, dict):
            return {name: plain(v) for name, v in value.items()}
        return value

    return {name: plain(value) for name, value in recipe._asdict().items()}
