"""How near features and probe are to neural collapse, and the angles of classes."""

import numpy as np

from rl_jax import evaluate
from rl_jax.run.measures.section import Section, number, shown
from rl_jax.run.measures.study import Reading, Study, class_names

MOST = 128
_NAMES = {
    "within": "NC1, spread within over that between classes",
    "equinorm": "NC2, unequal lengths of class means",
    "equiangle": "NC2, unequal angles",
    "angle": "NC2, largest distance of a cosine to the simplex ETF's",
    "duality": "NC3, classifier against class means",
    "nearest": "NC4, disagreement with the nearest class mean",
}


def collapse(study: Study, reading: Reading) -> Section:
    """NC1 to NC4 of the headline and its probe, on the examples it learnt from."""
    x, labels = reading.rows.fit, reading.rows.fit_labels

    def statistic(x, labels):
        return np.array(
            evaluate.neural_collapse(x, labels, reading.kernel, reading.bias)
        )

    counts = np.bincount(labels)
    if counts.min() >= 20:
        found = evaluate.jackknife(statistic, x, labels)
        entries = zip(*found, strict=True)
    else:
        entries = ((value,) for value in statistic(x, labels))
    values = {
        name: number(*map(float, entry))
        for name, entry in zip(_NAMES, entries, strict=True)
    }
    lines = [f"{text}: {shown(values[name])}" for name, text in _NAMES.items()]
    classes = len(counts)
    lines.append(
        f"all are 0 at collapse; class means then have the cosine "
        f"{-1 / (classes - 1):.3f} to each other. The probe is fitted to frozen "
        "features: NC3 says how it relates to them, not that training collapsed"
    )
    if classes > MOST:
        found = f"no cosines of {classes:,} class means"
        lines.append(f"{found}: up to {MOST} are recorded")
    means = np.stack([x[labels == c].mean(0, dtype=np.float64) for c in range(classes)])
    means -= means.mean(0)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    record = values | {
        # Of a thousand classes nobody reads a million cosines.
        "cosines": np.clip(means @ means.T, -1, 1) if classes <= MOST else [],
        "expected": -1 / (classes - 1),
        "classes": class_names(study, reading.rows.classes),
    }
    return Section("Neural collapse", lines, record)
