"""The accuracy of the classifier that a run has trained, which fine-tuning reports."""

from typing import Any

from rl_jax.run import labelled
from rl_jax.run.compare import OWN
from rl_jax.run.measures import Predictions, Study
from rl_jax.run.measures.accuracy import wilson
from rl_jax.run.measures.section import shown
from rl_jax.run.measures.study import labelled as with_labels
from rl_jax.run.trained import Run


def own(run: Run, study: Study) -> tuple[dict[str, Any], Predictions] | None:
    """How often `logits`, as the method gives them, are right on the scored examples.

    Evaluation mode, clean examples, nothing fitted anew: the number that fine-tuning
    with few labels is judged by (Chen et al. 2020, arXiv:2002.05709, table 7).

    Args:
      run: as trained.
      study: of it.

    Returns:
      `{"accuracy": number, "examples", "labels", "learned_from", "line"}`, with
      Wilson's interval, and the predictions, places among the classes. None where the
      method has no classifier, nothing is scored, or training had the scored labels.
    """
    source, labels = run.parts.source, run.recipe.labels
    if "logits" not in study.representations or not labelled.unseen(run.recipe, source):
        return None
    rows = with_labels(study.representations["logits"], study.labels)
    if rows is None:
        return None
    found = rows.scored[:, rows.classes].argmax(1)
    right = found == rows.scored_labels
    accuracy = wilson(float(right.mean()), len(right))
    count = labelled.count(labelled.of_run(run.recipe, source))
    share = "all" if labels == labelled.ALL else f"{labels} of each class"
    start = run.recipe.init_from
    line = (
        f"{run.recipe.method.factory}'s own classifier: accuracy {shown(accuracy)} on "
        f"{len(right):,} scored examples, learned from {count:,} labels ({share}), "
        f"encoder from {start.run if start else 'scratch'}"
    )
    record = {
        "accuracy": accuracy,
        "examples": len(right),
        "labels": labels,
        "learned_from": count,
        "line": line,
    }
    return record, {f"{OWN}{labels}": found[None]}
