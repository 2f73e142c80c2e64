"""The weights that the encoder of a run starts with: of another run, or of PyTorch.

Of a run read from the checkpoint alone: neither its data nor what its method and
optimizer carry is needed.
"""

import hashlib
import json
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax

from rl_jax import data, networks, own, train
from rl_jax.errors import UsageError
from rl_jax.run import recipe as recipes
from rl_jax.run import torch_file
from rl_jax.run.init_from import InitFrom
from rl_jax.run.recipe import Parts, Recipe, Spec
from rl_jax.types import Method, Network, Params, State

PLACES = {
    "params": (("params",), ("params", "method")),
    "state": tuple(
        ("state", *inner) for inner in ((), ("online",), ("network",), ("networks",))
    ),
}
"""Where a method has what belongs to `encoder` of the network with the gradient.
`method`: beside the online probe."""
AVERAGE = {"params": (("state", "target"),), "state": (("state", "target_state"),)}
"""The same of a moving average: of methods that evaluate it, see `Method.network`."""
NOT_NOTED = {
    **{"dino": "teacher", "ibot": "teacher", "dino_v2": "teacher"},
    "i_jepa": "target",
}
"""The network of those methods whose runs of before do not say that it is evaluated."""


class Weights(NamedTuple):
    """Parameters and batch statistics of an encoder."""

    params: Params
    state: State


def initial(recipe: Recipe, parts: Parts, given: Weights | None = None):
    """The compiled function that makes the run's first state.

    Args:
      recipe, parts: the run.
      given: what its encoder starts with; None: with random weights, whatever the
        recipe says, as the untrained encoder does that a trained one is compared with.
    """

    def method(given: Weights) -> Method:
        def start(network: Network) -> Network:
            return networks.pretrained(network, *given)

        return recipes.build(recipe, parts.source, encoder=start).method

    return train.initial_state(
        parts.method if given is None else method,
        parts.source,
        augment=parts.augment,
        optimizer=parts.optimizer,
        seed=recipe.seed,
        batch_size=recipe.batch_size,
        mesh=train.data_mesh(),
        given=given,
    )


def encoder_of(path: pathlib.Path) -> Spec:
    """The encoder that a run trains, or of which a file has the weights.

    Raises:
      UsageError: where the folder holds no run, or one without an encoder; where the
        file holds none.
    """
    return _told(path)[0]


def network(folder: pathlib.Path) -> str:
    """The network of a run that another starts with: that which it is evaluated by.

    Args:
      folder: of the run; nothing of its own code is needed.

    Raises:
      UsageError: where it holds no run.
    """
    found, notes = recipes.read(folder / "run.json")
    return notes.get("network", NOT_NOTED.get(found.method.factory, "online"))


def _told(folder: pathlib.Path) -> tuple[Spec, dict[str, Any]]:
    """The encoder of a run, and the notes beside its recipe; of a file none."""
    if torch_file.is_file(folder):
        return _asked(torch_file.encoder, folder), {}
    try:
        found, notes = recipes.read(folder / "run.json")
    except UsageError as error:
        raise UsageError(
            f"--init-from {folder}, whose encoder the run starts with: {error}"
        ) from None
    if "encoder" not in found.networks:
        raise UsageError(
            f"--init-from {folder}: {found.method.factory} trains no encoder; name "
            "another run"
        )
    return found.networks["encoder"], notes


def check(recipe: Recipe, source: data.Source) -> None:
    """Refuses, as far as the files show at once, what `read` would.

    Args:
      recipe: with `init_from`.
      source: the data of the run that starts.

    Raises:
      UsageError: where there is no run or checkpoint, another kind of encoder, or one
        of texts that knows other tokens.
    """
    assert recipe.init_from is not None
    folder = pathlib.Path(recipe.init_from.run)
    (there, notes), here = _told(folder), recipe.networks.get("encoder")
    if here is None:
        raise UsageError(
            f"--init-from: {recipe.method.factory} has no encoder; leave it out"
        )
    if there.factory != here.factory:
        raise UsageError(
            f"--init-from {folder}: its encoder is {there.factory}, here it is "
            f"{here.factory}; use --encoder {there.factory}"
        )
    # Where there are images, tokens are not the encoder's.
    tokens = notes.get("outline", {}).get("vocabulary") or source.vocabulary
    if not source.image_shape and tuple(tokens) != source.vocabulary:
        raise UsageError(
            f"--init-from {folder}: its encoder knows {len(tokens)} tokens, others "
            f"than the {len(source.vocabulary)} of {source.name}; use that run's data, "
            "or texts and options that give the same vocabulary"
        )
    if torch_file.is_file(folder):
        return
    if not any((folder / "checkpoints").glob("[0-9]*")):
        raise UsageError(f"--init-from {folder}: it has no checkpoint; train it first")


def read(recipe: Recipe, source: data.Source) -> tuple[InitFrom, Weights]:
    """Reads the weights that the recipe's encoder starts with; all processes call it.

    Args:
      recipe: with `init_from`; the checkpoint it names, or where it names none yet the
        newest sound one.
      source: the data of the run that starts.

    Returns:
      Where the weights come from, step and digest filled in; and the weights, on every
      device.

    Raises:
      UsageError: when the encoder is another, or the weights are not those that were
        noted.
      CheckpointError: when checkpoints exist and none is sound.
    """
    asked = recipe.init_from
    assert asked is not None
    wanted = _wanted(recipe, source)
    path = pathlib.Path(asked.run)
    if torch_file.is_file(path):
        step, weights = None, _from_file(recipe, wanted)
    else:
        online = network(path) == "online"
        step, weights = _from_run(recipe, wanted, PLACES if online else AVERAGE)
        if not online and asked.digest not in (None, _digest(weights)):
            # A run that a version of before has started, with what is trained.
            step, weights = _from_run(recipe, wanted, PLACES)
    digest = _digest(weights)
    if asked.digest not in (None, digest):
        what = "it" if step is None else f"the encoder of checkpoint {step}"
        raise UsageError(
            f"--init-from {path}: {what} has changed since this run was started; put "
            "it back, or start a new run"
        )
    return InitFrom(asked.run, step, digest), weights


def _from_run(
    recipe: Recipe, wanted: Weights, places: dict[str, tuple]
) -> tuple[int, Weights]:
    """Of the checkpoint that the recipe names, or the newest sound one."""
    asked = recipe.init_from
    assert asked is not None
    folder = pathlib.Path(asked.run)

    def choose(layout: dict[str, list]) -> list[str]:
        there = {_place(name, places): name for name in layout}
        _check_same(recipe, {k: layout[v] for k, v in there.items() if k}, wanted)
        return [there[place] for place in _layout(wanted)]

    with train.Checkpoints(folder / "checkpoints", read_only=True) as checkpoints:
        everywhere = train.replicated(train.data_mesh())
        found = checkpoints.restore_part(choose, sharding=everywhere, step=asked.step)
    if found is None:
        what = "no checkpoint" if asked.step is None else f"no checkpoint {asked.step}"
        raise UsageError(
            f"--init-from {folder}: it has {what} any more; put it back, or start a "
            "new run"
        )
    step, leaves = found
    return step, jax.tree.unflatten(jax.tree.structure(wanted), list(leaves.values()))


def _asked(read: Callable[[pathlib.Path], Any], path: pathlib.Path) -> Any:
    """What a file holds; where it is refused, the flag that names it stands before."""
    try:
        return read(path)
    except UsageError as error:
        raise UsageError(f"--init-from {error}") from None


def _from_file(recipe: Recipe, wanted: Weights) -> Weights:
    """Of the file that the recipe names; positions are those of the images here."""
    assert recipe.init_from is not None
    found = _asked(torch_file.read, pathlib.Path(recipe.init_from.run))
    given = Weights(*torch_file.fitted(found, wanted.params))
    _check_same(recipe, _layout(given), wanted)
    everywhere = train.replicated(train.data_mesh())
    leaves = {
        jax.tree_util.keystr(path): x
        for path, x in jax.tree_util.tree_leaves_with_path(given)
    }
    return jax.tree_util.tree_map_with_path(
        lambda path, _: train.put(leaves[jax.tree_util.keystr(path)], everywhere),
        wanted,
    )


def differing(recipe: Recipe) -> list[str]:
    """Arguments of the encoder that the other run had otherwise, a few words each."""
    assert recipe.init_from is not None
    folder = pathlib.Path(recipe.init_from.run)
    spec, notes = _told(folder)
    # Of these a file tells nothing.
    free = torch_file.FREE if torch_file.is_file(folder) else ()
    there, here = spec.arguments, recipe.networks["encoder"].arguments
    names = own.names(recipes.as_json(recipe))
    code = own.change(notes, own.digests(names))
    changed = [f"{code} has changed since that run started"] if code else []
    return changed + [
        f"{name} is {there.get(name)} there, {here.get(name)} here"
        for name in sorted((there.keys() | here.keys()) - set(free))
        if there.get(name) != here.get(name)
    ]


def _wanted(recipe: Recipe, source: data.Source) -> Weights:
    """Shapes and dtypes of what the encoder starts with, nothing computed."""
    seen = []

    def told(network: Network) -> Network:
        def init(rng, x):
            made = network.init(rng, x)
            seen.append(
                jax.tree.map(lambda v: jax.ShapeDtypeStruct(v.shape, v.dtype), made)
            )
            return made

        return network._replace(init=init)

    parts = recipes.build(recipe, source, encoder=told)
    jax.eval_shape(initial(recipe, parts))
    return Weights(*seen[0])


def _check_same(
    recipe: Recipe, there: dict[tuple[str, ...], list], wanted: Weights
) -> None:
    """Refuses weights of other names, shapes or dtypes, naming the difference."""
    here = _layout(wanted)
    if not there:
        raise UsageError(
            f'--init-from {recipe.init_from.run}: its method keeps no params["encoder"]'  # type: ignore[union-attr]
            "; name a run whose method does"
        )
    for place in sorted(there.keys() | here.keys()):
        if there.get(place) == here.get(place):
            continue
        one, two = (
            "nothing" if entry is None else f"{entry[1]}{entry[0]}"
            for entry in (there.get(place), here.get(place))
        )
        name = "/".join(place[1:])
        why = differing(recipe) or [f"{name} is {one} there, {two} here"]
        raise UsageError(
            f"--init-from {recipe.init_from.run}: its encoder does not fit: "  # type: ignore[union-attr]
            f"{'; '.join(why)}; use the same encoder on inputs of the same shape"
        )


def _layout(weights: Weights) -> dict[tuple[str, ...], list]:
    found = {}
    for kind, tree in weights._asdict().items():
        for path, x in jax.tree_util.tree_leaves_with_path(tree):
            place = train.path_of(jax.tree_util.keystr(path))
            found[kind, *place] = [list(x.shape), str(x.dtype)]
    return found


def _place(name: str, places: dict[str, tuple]) -> tuple[str, ...] | None:
    """Of a leaf of a checkpoint where it is in its encoder; None for any other."""
    path = tuple(train.path_of(name))
    for kind, each in places.items():
        for above in each:
            first = (*above, "encoder")
            if path[: len(first)] == first:
                return kind, *path[len(first) :]
    return None


def _digest(weights: chex.ArrayTree) -> str:
    text = json.dumps(train.fingerprint(weights), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
