"""What the representations are worth: the tables, accuracy by number of labels."""

import math
from collections.abc import Iterable, Sequence

from rl_jax.report import axes, charts, headline, words
from rl_jax.report.charts import Curve
from rl_jax.report.markup import Markup, card, number, percent, tag
from rl_jax.report.read import Entry, Evaluation, Record, Score


def table(run: Record, *, several: bool) -> Markup:
    """Probe and k-NN accuracy of every representation, baselines last.

    Args:
      run: an evaluated one with labels.
      several: whether the page has no headline of this run, which gives the verdict.
    """
    evaluation = run.evaluation
    assert evaluation is not None
    shares = evaluation.shares
    columns = [(kind, share) for kind in ("probe", "knn") for share in shares]
    trained = [e for e in evaluation.table if e.representation not in words.BASELINES]
    best = {c: _best(trained, *c) for c in columns}
    beaten = False
    rows = []
    for entry in sorted(
        evaluation.table, key=lambda e: e.representation in words.BASELINES
    ):
        baseline = entry.representation in words.BASELINES
        cells = []
        for column in columns:
            value = getattr(entry, column[0])[column[1]]
            top = best[column]
            ahead = None not in (value.mean, top) and value.mean >= top
            beaten |= baseline and ahead
            mark = tag("small", " †") if baseline and ahead else None
            classes = "best" if ahead and not baseline else None
            cells.append(tag("td", words.score(value), mark, class_=classes))
        # Of a teacher the title says so, and of what was not trained.
        told = entry.network in entry.title.split()
        network = "" if entry.representation == "raw" or told else f" {entry.network}"
        name = [entry.title, tag("small", f" [{entry.dim}]{network}")]
        kind = "tr.base" if baseline else "tr"
        rows.append(tag(kind, tag("th", name, scope="row"), cells))
    groups = [
        tag("th.group", name, colspan=len(shares), scope="colgroup")
        for name in ("linear probe", "k-NN")
    ]
    heads = [
        tag("th", s if s == "all" or s.endswith("%") else f"{s}/class", scope="col")
        for _, s in columns
    ]
    body = tag(
        "table",
        tag("caption", f"Accuracy in % · {run.name}"),
        tag(
            "thead",
            tag("tr", tag("th", "", rowspan=2), groups),
            tag("tr", heads),
        ),
        tag("tbody", rows),
    )
    caption = _caption(evaluation, beaten, bool(trained))
    said = headline.verdict(evaluation) if several else None
    return tag("div.card.apart", tag("div.scroll", body), said, caption)


def by_labels(runs: Sequence[Record], *, kind: str, colours: Sequence[str]) -> Markup:
    """Accuracy against labels per class: all representations, or h of several runs."""
    found = [
        (run, run.evaluation, colour)
        for run, colour in zip(runs, colours, strict=True)
        if run.evaluation and run.evaluation.table
    ]
    shares = _shares(e.shares for _, e, _ in found)
    curves: list[Curve] = []
    if len(runs) == 1:
        spare = iter(f"c{i}" for i in (3, 4, 5, 6, 7) * len(found[0][1].table))
        for entry in found[0][1].table:
            colour = words.COLOURS.get(entry.representation) or next(spare)
            curves.append(
                _curve(words.short(entry), getattr(entry, kind), shares, colour)
            )
    else:
        for run, evaluation, colour in found:
            entry = words.find(evaluation, "h") or evaluation.table[0]
            curves.append(_curve(run.name, getattr(entry, kind), shares, colour))
        for name, text in words.BASELINES.items():
            curves += _baselines(found, name, text, kind, shares)
    values = [
        end
        for curve in curves
        for y, half in zip(curve.y, curve.spread, strict=True)
        if y is not None
        for end in (y, max(0.0, y - (half or 0)), min(1.0, y + (half or 0)))
    ]
    name = {"probe": "Linear probe", "knn": "k-NN"}[kind]
    figure = charts.points(
        curves,
        label=f"{name} accuracy against labels per class: "
        + "; ".join(f"{c.name} {', '.join(map(percent, c.y))} %" for c in curves),
        x_names=shares,
        y_axis=axes.linear(values, count=5, unit="%"),
        x_title="labels per class",
        y_title="test accuracy",
    )
    return card(f"{name} by number of labels", figure)


def geometry(runs: Sequence[Record]) -> Markup | None:
    """RankMe and spread of each representation."""
    rows = []
    for run in runs:
        for name, values in (run.evaluation.geometry if run.evaluation else {}).items():
            cells = [
                number(values.get("rank_me")),
                number(values.get("std")),
                number(values.get("dim"), 4),
            ]
            label = name if len(runs) == 1 else f"{run.name} · {name}"
            rows.append(
                tag("tr", tag("th", label, scope="row"), [tag("td", c) for c in cells])
            )
    if not rows:
        return None
    heads = ("", "RankMe", "spread", "dimensions")
    body = tag(
        "table",
        tag("thead", tag("tr", [tag("th", h, scope="col") for h in heads])),
        tag("tbody", rows),
    )
    note = (
        "RankMe: the effective number of dimensions in use, exp of the entropy of the "
        "normalised singular values, on clean test images. Spread: 1 when embeddings "
        "cover the sphere, 0 when all are alike."
    )
    return card("Geometry", tag("div.scroll", body), tag("p.note", note))


def _caption(evaluation: Evaluation, beaten: bool, trained: bool) -> Markup:
    share = evaluation.shares[-1]
    top = _best(evaluation.table, "probe", share) or 0.0
    low, high = words.sampling(top, evaluation.test_images)
    sentences = [
        f"Measured: {evaluation.evaluated}.",
        "The probe is multinomial logistic regression, k-NN goes by cosine.",
        f"Classifiers learn from {evaluation.train_images:,} images (or as many labels "
        "of each class, or such a part of them, as the column says, mean ± standard "
        "deviation over draws) and are "
        f"scored on {evaluation.test_images:,} others; of so many, an accuracy of "
        f"{percent(top)} % is known to lie between {percent(low)} and {percent(high)} "
        "% (95 %, Wilson).",
        "Bold: best of the trained." if trained else "",
        "† this baseline is not beaten: training has not paid off there."
        if beaten
        else "",
        *(f"Note: {note}." for note in evaluation.notes),
    ]
    return tag("p.note", " ".join(s for s in sentences if s))


def _best(entries: Sequence[Entry], kind: str, share: str) -> float | None:
    means = [getattr(e, kind)[share].mean for e in entries]
    return max((m for m in means if m is not None), default=None)


def _curve(name: str, scores: dict[str, Score], shares, colour: str) -> Curve:
    found = [scores.get(s, Score(None, None)) for s in shares]
    x = [float(i) for i in range(len(shares))]
    return Curve(name, x, [s.mean for s in found], colour, [s.std for s in found])


def _baselines(found, name: str, text: str, kind: str, shares) -> list[Curve]:
    """A baseline once for all runs that agree on it: those on the same data."""
    curves: list[Curve] = []
    for run, evaluation, _ in found:
        entry = words.find(evaluation, name)
        if entry is not None:
            new = _curve(text, getattr(entry, kind), shares, words.COLOURS[name])
            if all(new.y != old.y for old in curves):
                other = f"{text}, {run.name}" if curves else text
                curves.append(new._replace(name=other))
    return curves


def _shares(several: Iterable[Sequence[str]]) -> list[str]:
    return sorted({share for shares in several for share in shares}, key=_place)


def _place(share: str) -> tuple[bool, bool, float, str]:
    """Numbers of labels, then parts of them, then all; what is neither, by its text."""
    try:
        size = float(share.removesuffix("%"))
    except ValueError:
        size = math.inf
    return share == "all", share.endswith("%"), size, share
