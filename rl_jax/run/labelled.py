"""Which labels training may see: all, or a few of each class for fine-tuning."""

import numpy as np

from rl_jax import data, evaluate, own
from rl_jax.errors import UsageError
from rl_jax.run.recipe import Recipe
from rl_jax.run.split import labelling, share_of, split

ALL = "all"
OF_LABELS = ("supervised", "sup_con", "vib")
"""Methods whose loss reads labels."""
OF_LABELS_ALONE = ("supervised", "vib")
"""Those to which an example without a label tells nothing of its class."""


def seen(
    source: data.Source, *, labels: str, method: str, seed: int = 0
) -> data.Source:
    """The source as training sees it, with the labels it may have.

    The labelled are drawn by the seed of the run, from each class alike and by the rule
    of `evaluate --labels`, of the part that probes learn from: none is ever scored. A
    method of labels alone learns from these examples and no others, for of a batch of
    all, at 1 % of the labels, a hundredth would say something (Chen et al. 2020,
    arXiv:2002.05709, table 7, fine-tune on the labelled images likewise). Others, and
    the online probe beside them, see every example, with label -1 where unknown.

    Args:
      source: the data.
      labels: `10`: so many of each class; `1%`: that part of each class, at least one;
        `all`.
      method: name of its factory.
      seed: of the draw.

    Raises:
      UsageError: for labels that are no number and no part, that the data does not
        have, or more than a class has.
    """
    if labels == ALL:
        return source
    chosen = draw(source, labels, seed)
    if method in OF_LABELS_ALONE:
        return data.rows(source, chosen)._replace(held_out=source.held_out)
    known = np.full(source.size, -1, np.int32)
    known[chosen] = np.asarray(source.labels)[chosen]
    return source._replace(labels=known)


def of_run(recipe: Recipe, source: data.Source) -> data.Source:
    """`seen` of a recipe."""
    method = recipe.method.factory
    return seen(source, labels=recipe.labels, method=method, seed=recipe.seed)


def draw(source: data.Source, labels: str, seed: int) -> np.ndarray:
    """The examples whose labels may be seen, ascending: int [k].

    Args:
      source: with labels.
      labels: `10`: so many of each class; `1%`: that part of each class, at least one.
      seed: of the draw.
    """
    share = share_of(labels)
    if share is None:
        raise UsageError(
            "--labels must be a number per class, as 10, a part of the labels up to "
            f"100%, as 1%, or {ALL}, got {labels!r}"
        )
    part, _, _ = split(source)
    known = np.flatnonzero(part.labels >= 0)
    if not len(known):
        raise UsageError(
            f"--labels {labels}: {source.name} has no labels; {labelling(source)}"
        )
    of_known = part.labels[known]
    if isinstance(share, float):
        drawn = evaluate.fraction_draws(of_known, share, 1, seed)
    else:
        classes, counts = np.unique(of_known, return_counts=True)
        if counts.min() < share:
            few = classes[counts.argmin()]
            names = source.class_names
            raise UsageError(
                f"--labels {labels}: class {names[few] if few < len(names) else few} "
                f"has {counts.min()} examples to learn from; give fewer, or a part as "
                "10%"
            )
        drawn = evaluate.label_draws(of_known, share, 1, seed)
    return np.sort(part.index[known[drawn[0]]])


def count(source: data.Source) -> int:
    """Examples whose label is known."""
    return 0 if source.labels is None else int(np.sum(source.labels >= 0))


def note(recipe: Recipe, source: data.Source) -> str | None:
    """What training saw of the scored fifth, where it saw more or less than usual."""
    if not unseen(recipe, source):
        what = "may have seen" if own.is_own(recipe.method.factory) else "has seen"
        return f"no held-out part: training {what} the scored fifth with its labels"
    alone = recipe.method.factory in OF_LABELS_ALONE
    if source.held_out is None and recipe.labels != ALL and alone:
        return "no held-out part: a fifth was kept from training, and is scored"
    return None


def unseen(recipe: Recipe, source: data.Source) -> bool:
    """Whether training has seen no label of the examples an evaluation scores."""
    # What an own method does with labels it may be given nobody knows.
    of_labels = recipe.method.factory in OF_LABELS or own.is_own(recipe.method.factory)
    return source.held_out is not None or not of_labels or recipe.labels != ALL
