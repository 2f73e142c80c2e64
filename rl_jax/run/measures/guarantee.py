"""What the contrastive loss of the features promises of the mean classifier."""

import jax
import numpy as np

from rl_jax import evaluate
from rl_jax.run.measures.section import Section, number
from rl_jax.run.measures.study import Labelled, Study, labelled


def guarantee(study: Study) -> Section:
    """Saunshi's bound on the headline as it is and at unit length, on scored rows."""
    found = labelled(study.representations[study.headline], study.labels)
    assert found is not None
    x, labels = _present(found)
    # In float32 the squares of small features are 0.
    norms = np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
    unit = (x / np.where(norms > 0, norms, 1.0)).astype(np.float32)
    rows, lines = [], []
    for name, features in (
        (study.headline, x),
        (f"{study.headline}, unit length", unit),
    ):
        bound = evaluate.sampled_guarantee(jax.random.key(0), features, labels)
        row = {
            "features": name,
            "unsupervised": float(bound.unsupervised),
            "supervised": float(bound.supervised),
            "collision": float(bound.collision),
            "bound": number(float(bound.bound), float(bound.low), float(bound.high)),
        }
        rows.append(row)
        lines.append(
            f"{name}: the mean classifier loses {row['supervised']:.3f} bits, the "
            f"contrastive loss {row['unsupervised']:.3f} allows at most "
            f"{row['bound']['value']:.3f} [{row['bound']['low']:.3f}, "
            f"{row['bound']['high']:.3f}]"
        )
    lines.append(
        "positives here are any two examples of a class; the interval is that of the "
        "triples drawn; above 1 bit the bound says nothing, for guessing loses 1"
    )
    return Section("Guarantee of the mean classifier", lines, {"rows": rows})


def _present(found: Labelled) -> tuple[np.ndarray, np.ndarray]:
    """Scored rows, and their labels among the classes that are scored."""
    known = found.scored_labels < len(found.classes)
    labels = np.unique(found.scored_labels[known], return_inverse=True)[1]
    return found.scored[known].astype(np.float32), labels
