"""How the representations lie in space: rank, spread, hubs, classes, pairs of views."""

from collections.abc import Callable
from typing import Any

import numpy as np

from rl_jax import evaluate
from rl_jax.errors import UsageError
from rl_jax.run.measures.section import Section, number, shown
from rl_jax.run.measures.study import Study, spread

ROWS = 2000
"""Scored examples that are looked at, evenly spread; some cost grows as n²."""
NEIGHBOURS = 10
MANY = 5
"""Images for each dimension, with which an interval holds LiDAR's value of all."""
FIRST, LAST, LEAST = 6, 100, 15
"""Ranks of α-ReQ's fit, and how many there must be: its line begins at the sixth."""

_RANKS = ("rank_me", "effective_rank", "lidar")
_CORRECTED = (*_RANKS, "alpha_req")
_SIGNED = ("hubness", "margin", "uniformity")
_MEANING = {
    "rank_me": "dimensions in use, smoothly counted",
    "effective_rank": "the same of the covariance",
    "alpha_req": f"the spectrum falls as rank^−α, from rank {FIRST} to {LAST} or the "
    "last; 0: all directions spread the same, near 1 was best of natural images, "
    "large: few directions hold nearly all",
    "std": "1 spread over the sphere, 0 collapsed",
    "hubness": "skewness of how often a row is a neighbour; 0: no hubs",
    "orphans": "share of rows that are nobody's neighbour",
    "margin": "distance to the nearest boundary of class means, in units of the spread",
    "separation": "distance of the nearest two class means, in the same units",
    "fisher": "spread between classes over that within",
}


def geometry(study: Study) -> Section:
    """Rank, spread, hubness and, with labels, how classes lie to each other."""
    rows, problems = [], []
    few = spread(len(study.labels.scored), ROWS)
    labels = study.labels.scored[few]
    known = labels >= 0
    for name, pair in study.representations.items():
        x, measures = pair.scored[few], {}
        parts = [(_rank, (x,), ("rank_me", "effective_rank", "std"))]
        # Fewer than twice as many rows as the last rank bend the spectrum's end.
        last = min(LAST, x.shape[1], len(x) // 2)
        if last >= LEAST:
            parts.append((_decay(last), (x,), ("alpha_req",)))
        if len(x) > NEIGHBOURS + 1:
            parts.append((_hubs, (x,), ("hubness", "orphans")))
        if len(np.unique(labels[known])) > 1:
            names = ("margin", "separation", "fisher")
            parts.append((_classes, (x[known], labels[known]), names))
        for statistic, arrays, names in parts:
            try:
                measures |= _measured(statistic, *arrays, names=names)
            except UsageError as error:
                problems.append(f"{study.titles[name]}: not measured: {error}")
        rows.append({"name": name, "measures": measures})
    found = {k for row in rows for k in row["measures"]}
    keys = [k for k in _MEANING if k in found]
    lines = [
        f"{key} ({_MEANING[key]}): "
        + ", ".join(
            f"{study.titles[row['name']]} {shown(row['measures'][key], 2)}"
            for row in rows
            if key in row["measures"]
        )
        for key in keys
    ]
    lines.append(f"of {len(few):,} scored examples")
    return Section("Geometry", [*lines, *problems], {"rows": rows})


def alignment(study: Study) -> Section:
    """The alignment-uniformity plane of two views of each example; LiDAR of many."""
    points, lines, problems, limit = {}, [], [], 0.0
    for name, pair in study.views.items():
        a, b, left_out = _directions(*pair)
        problems += [f"{name}: {line}" for line in left_out]
        try:
            found = _measured(_plane, a, b, names=("alignment", "uniformity"))
            limit = evaluate.alignment_uniformity(a[:2], b[:2]).limit
        except UsageError as error:
            problems.append(f"{name}: not measured: {error}")
            continue
        points[name] = found
        lines.append(
            f"{name}: alignment {shown(found['alignment'])} (0: views agree), "
            f"uniformity {shown(found['uniformity'])} ({limit:.3f}: spread over the "
            "sphere)"
        )
    clouds = study.clouds() if study.clouds is not None else {}
    for name, views in clouds.items():
        try:
            found = _lidar(views)
        except UsageError as error:
            problems.append(f"{name}: not measured: {error}")
            continue
        points.setdefault(name, {})["lidar"] = found
        images, q, dim = views.shape
        few = "" if images >= MANY * dim else "; of more images it would be larger"
        lines.append(
            f"{name}: LiDAR {shown(found, 2)} of {dim:,} from {q} views of {images:,} "
            "images (directions in which images differ by more than their views do, "
            f"smoothly counted{few})"
        )
    if not points:
        raise UsageError("; ".join(problems))
    told = [{"name": name, **point} for name, point in points.items()]
    values = {"points": told, "limit": limit}
    return Section("Alignment and uniformity", [*lines, *problems], values)


def similarity(study: Study) -> Section:
    """Cosines of positives and negatives, and how decided the softmax over them is."""
    name, (a, b) = list(study.views.items())[-1]
    a, b, left_out = _directions(a, b)
    found = evaluate.similarity_histogram(a, b)
    values: dict[str, Any] = {
        "name": name,
        "edges": found.edges,
        "positive": found.positive,
        "negative": found.negative,
        "positive_mean": found.positive_mean,
        "negative_mean": found.negative_mean,
        "entropy": None,
        "max_softmax": None,
        "temperature": study.temperature,
    }
    lines = [
        f"{name}: mean cosine of two views of an image {found.positive_mean:.3f}, of "
        f"views of different ones {found.negative_mean:.3f}"
    ]
    if study.temperature:
        sharp = evaluate.softmax_sharpness(a, b, temperature=study.temperature)
        values |= {"entropy": sharp.entropy, "max_softmax": sharp.max_softmax}
        lines.append(
            f"softmax at temperature {study.temperature:g} over {len(b):,} candidates: "
            f"entropy {sharp.entropy:.2f} of log K (1: all count the same), likeliest "
            f"candidate {sharp.max_softmax:.2f}"
        )
    return Section("Cosines of pairs", [*lines, *left_out], values)


def _directions(a: np.ndarray, b: np.ndarray):
    """Some rows of two views, without those that are zero in one: they have none."""
    few = spread(len(a), ROWS)
    a, b = a[few], b[few]
    keep = np.any(a, axis=1) & np.any(b, axis=1)
    zeros = int(np.sum(~keep))
    lines = [f"{zeros:,} of {len(a):,} examples left out: rows of zeros"]
    return a[keep], b[keep], lines if zeros else []


def _measured(statistic: Callable, *rows: np.ndarray, names) -> dict[str, dict]:
    """Each value of a statistic as a `number`; without interval for too few rows."""
    if len(rows[0]) < 20:
        return {
            name: number(float(value))
            for name, value in zip(names, statistic(*rows), strict=True)
        }
    # Few rows fill few dimensions, which the interval makes up for.
    found = evaluate.jackknife(statistic, *rows, corrected=names[0] in _CORRECTED)
    out = {}
    for name, value, low, high in zip(names, *found, strict=True):
        low = low if name in _SIGNED else max(low, 0.0)
        high = min(high, max(value, rows[0].shape[-1])) if name in _RANKS else high
        out[name] = number(float(value), float(low), float(high))
    return out


def _rank(x):
    measures = (evaluate.rank_me, evaluate.effective_rank, evaluate.normalized_std)
    return np.stack([np.asarray(measure(x)) for measure in measures])


def _decay(last: int) -> Callable:
    """Of a fixed range, so that fewer rows are fitted over the same."""
    return lambda x: np.array([evaluate.alpha_req(x, ranks=(FIRST, last))])


def _lidar(views: np.ndarray) -> dict:
    """LiDAR of views [m, q, D]; relative, for the scales of representations differ."""
    images, q, dim = views.shape
    # Without as many differences between views Σ_w has no inverse but for δ.
    if 2 * images * (q - 1) < 3 * dim:
        raise UsageError(
            f"lidar: {q} views of {images:,} images are too few to know how views "
            f"spread in {dim:,} dimensions; {-(-3 * dim // (2 * q - 2)):,} images "
            "would do"
        )

    def statistic(views):
        return np.array([evaluate.lidar(views, relative=True)])

    # With fewer images the correction for their number is too small.
    if images < MANY * dim:
        return number(float(statistic(views)[0]))
    return _measured(statistic, views, names=("lidar",))["lidar"]


def _hubs(x):
    found = evaluate.hubness(x, k=NEIGHBOURS)
    return np.array([found.skewness, found.orphans])


def _classes(x, labels):
    found = evaluate.class_geometry(x, labels)
    # Of one example each, or equal ones, classes have no spread to be a unit.
    spread = float(found.spread.mean()) or np.nan
    margin, separation = found.margin.mean() / spread, found.separation.min() / spread
    return np.array([margin, separation, found.fisher])


def _plane(a, b):
    found = evaluate.alignment_uniformity(a, b)
    return np.array([found.alignment, found.uniformity])
