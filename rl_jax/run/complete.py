"""Arguments of a recipe that nobody gives: they follow from the data and the run."""

import inspect
from collections.abc import Callable
from typing import Any

import jax

from rl_jax import data
from rl_jax.errors import UsageError
from rl_jax.run import recipe as recipes
from rl_jax.run.recipe import Recipe, Spec


def complete(recipe: Recipe, source: data.Source) -> Recipe:
    """The same recipe with the arguments that follow from the data and the run.

    Parameters of factories without a default get the value of their name: total_steps,
    batch_size, num_classes, num_examples, num_segments, vocab_size, and the shape of an
    input. A predictor is as wide as what it predicts, a method's `split` that of its
    networks.

    Raises:
      UsageError: for one the data does not have, as classes without labels.
    """
    known = _known(recipe, source)

    def filled(factories: tuple[Callable, ...], spec: Spec, what: str) -> Spec:
        factory = recipes.find(factories, spec.factory, what)
        for p in inspect.signature(factory).parameters:
            if p in spec.arguments or p not in known:
                continue
            spec = spec.given(**{p: known[p](spec.factory)})
        return spec

    nets = {
        role: filled(recipes.ROLES[role], spec, role)
        for role, spec in recipe.networks.items()
    }
    if "predictor" in nets:
        nets["predictor"] = _as_wide(nets["predictor"], nets.get("projector"))
    augment = filled(recipes.AUGMENTS, recipe.augment, "augmentation")
    method = filled(recipes.METHODS, recipe.method, "method")
    if "split" in inspect.signature(recipes.find_method(method.factory)).parameters:
        splits = [net.arguments.get("split", 1) for net in nets.values()]
        method = method.given(split=max(splits))
    optimizer = filled(recipes.OPTIMIZERS, recipe.optimizer, "optimizer")
    parts = {"augment": augment, "method": method, "optimizer": optimizer}
    return recipe._replace(networks=nets, **parts)


def _as_wide(predictor: Spec, projector: Spec | None) -> Spec:
    """The predictor with the width of what it predicts."""
    factory = recipes.find(recipes.ROLES["predictor"], predictor.factory, "predictor")
    if "out" not in inspect.signature(factory).parameters:
        return predictor
    if projector is None or "out" not in projector.arguments:
        raise UsageError(
            f"{predictor.factory}: its out is that of the projector, which has none; "
            "make out a parameter of the projector, or give a predictor without"
        )
    return predictor.given(out=projector.arguments["out"])


def _known(recipe: Recipe, source: data.Source) -> dict[str, Callable[[str], Any]]:
    """`{name: (factory) -> value}` of the arguments nobody has to give."""

    def classes(factory):
        if not recipes.has_labels(source):
            raise UsageError(
                f"{factory} learns from labels, and {source.name} has none of two "
                "classes; name them by sub-folders, .cls in tars, or `label` in an .npz"
            )
        return recipes.num_classes(source)

    def segments(factory):
        if "u" not in source.fields:
            raise UsageError(
                f"{factory} needs the segment u of each example, and {source.name} has "
                "none; --data ica has"
            )
        return int(source.fields["u"].max()) + 1

    def vocabulary(factory):
        if not source.vocabulary:
            raise UsageError(
                f"{factory} reads text, and {source.name} has none; give a text file, "
                "or images with captions, as a folder with captions.csv"
            )
        return len(source.vocabulary)

    def shape(factory):
        shapes = data.shapes(source)
        if "image" not in shapes:
            raise UsageError(f"{factory} makes images, and {source.name} has none")
        size, dtype = shapes["image"]
        image = jax.ShapeDtypeStruct((1, *size), dtype)
        clean = recipes.build_augment(recipe.augment).clean
        return jax.eval_shape(clean, image).shape[1:]

    return {
        "total_steps": lambda _: recipe.steps,
        "batch_size": lambda _: recipe.batch_size,
        "num_examples": lambda _: source.size,
        "num_classes": classes,
        "num_segments": segments,
        "vocab_size": vocabulary,
        "shape": shape,
    }


FILLED_IN = ("total_steps", "batch_size", "num_examples", "num_classes")
FILLED_IN += ("num_segments", "vocab_size", "shape")
"""Arguments that `complete` knows."""
