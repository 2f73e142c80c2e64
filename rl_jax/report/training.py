"""Curves over steps, and what the diagnostics say."""

import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

from rl_jax.report import axes, charts
from rl_jax.report.charts import Curve
from rl_jax.report.markup import Markup, card, command, escape, missing, number, tag
from rl_jax.report.read import Record
from rl_jax.verdicts import Verdict, judged_from, verdicts

_MOST_OTHERS = 24


class Metric(NamedTuple):
    """How a metric is shown.

    Attributes:
      name: in the rows.
      title: of its figure.
      axis: of the values, with the unit.
      note: how to read it.
      unit: "%" for shares.
      typical: show the median rather than the last value.
    """

    name: str
    title: str
    axis: str
    note: str = ""
    unit: str = ""
    typical: bool = False


METRICS = (
    Metric("loss", "Loss", "loss", "What the optimizer lowers, on augmented views."),
    Metric("z_std", "Collapse meter", "std of normalised z × √D"),
    Metric(
        "uniformity",
        "Uniformity",
        "log mean exp(−2 d²)",
        "Lower is more evenly spread over the sphere; 0: all embeddings are alike.",
    ),
    Metric(
        "alignment",
        "Alignment",
        "mean d² of an image's views",
        "Lower is closer; 0 with uniformity near 0 is collapse, not success.",
    ),
    Metric(
        "z_rank",
        "Effective rank of z",
        "participation ratio",
        "Directions the embeddings spread along, of at most 256 examples.",
    ),
    Metric(
        "h_rank",
        "Effective rank of h",
        "participation ratio",
        "Directions the representations spread along, of at most 256 examples.",
    ),
    Metric(
        "softmax_entropy",
        "Softmax entropy",
        "share of log K",
        "1: all candidates weigh the same; 0: one of them decides.",
    ),
    Metric(
        "probe_accuracy",
        "Online probe",
        "accuracy on training views",
        "A linear classifier trained alongside on augmented training views: it shows "
        "the trend, the evaluation the result.",
        unit="%",
    ),
    Metric(
        "knn",
        "k-NN while training",
        "accuracy on clean images",
        "Of h in evaluation mode, as the evaluation has it, but of at most 1,000 "
        "images by the labels of at most 5,000 others.",
        unit="%",
    ),
    Metric(
        "grad_norm",
        "Gradient norm",
        "‖gradient‖",
        "Peaks are steps that nearly diverged.",
    ),
    Metric("learning_rate", "Learning rate", "learning rate"),
    Metric(
        "images_per_second",
        "Throughput",
        "images per second",
        "The first value includes compilation.",
        typical=True,
    ),
    Metric(
        "data_wait",
        "Waiting for data",
        "share of the time",
        "Above a few per cent the device is starved: more --threads, or --workers.",
        unit="%",
        typical=True,
    ),
)
_HIDDEN = {"step", "time"} | {m.name for m in METRICS}


def section(runs: Sequence[Record], colours: Sequence[str]) -> Markup:
    """All curves, those of several runs in one figure, with what is unusual first."""
    notes = [note for run in runs for note in _notes(run, several=len(runs) > 1)]
    if len({_method(run) for run in runs}) > 1:
        text = "Losses and gradient norms of different methods do not compare."
        notes.append(tag("p.note", text))
    if not any(run.rows for run in runs):
        return escape(notes)
    cards = [_figure(m, runs, colours) for m in METRICS]
    known = {name for run in runs for row in run.rows for name in row} - _HIDDEN
    others = [Metric(n, n.replace("_", " "), n) for n in sorted(known)[:_MOST_OTHERS]]
    if not any(row.get("nonfinite") for run in runs for row in run.rows):
        others = [metric for metric in others if metric.name != "nonfinite"]
    more = [figure for m in others if (figure := _figure(m, runs, colours))]
    legend = _legend(runs, colours) if len(runs) > 1 else None
    details = None
    if more:
        summary = tag("summary", f"Other metrics ({len(more)})")
        details = tag("details", summary, tag("div.grid", more))
    return escape([notes, legend, tag("div.grid", cards), details])


def last(run: Record, name: str) -> float | None:
    """The newest value of a metric."""
    return next((row[name] for row in reversed(run.rows) if name in row), None)


def typical(run: Record, name: str) -> float | None:
    """The median of a metric."""
    values = [v for row in run.rows if (v := row.get(name)) is not None]
    return statistics.median(values) if values else None


def steps(run: Record) -> tuple[int, int | None]:
    """Steps logged, and of how many."""
    total = run.recipe.get("steps")
    done = int(run.rows[-1]["step"] or 0) if run.rows else 0
    return done, total if isinstance(total, int) else None


def _notes(run: Record, *, several: bool) -> list[Markup]:
    out = []
    who = f"{run.name}: " if several else ""
    done, total = steps(run)
    if not run.rows:
        out.append(missing(who, "No metrics yet: the first row is still to come."))
    if total is not None and done < total:
        out.append(
            missing(
                f"{who}{done:,} of {total:,} steps so far; if it is not running, ",
                command("resume", run.folder),
                " continues it.",
            )
        )
    lost = [int(row["step"] or 0) for row in run.rows if row.get("nonfinite")]
    lost += [
        int(row["step"] or 0)
        for row in run.rows
        if "loss" in row and row["loss"] is None
    ]
    if lost:
        text = f"{who}The loss or gradient was not finite near step {min(lost):,}"
        rest = len(set(lost)) - 1
        text += f" and at {rest:,} later log points." if rest else "."
        out.append(missing(text, " Gaps in the curves are these places."))
    if run.rows and not any("probe_accuracy" in row for row in run.rows):
        text = "No online probe: the data has no labels, or the run was made without."
        out.append(tag("p.note", who, text))
    return out


def _figure(
    metric: Metric, runs: Sequence[Record], colours: Sequence[str]
) -> Markup | None:
    curves = []
    for run, colour in zip(runs, colours, strict=True):
        rows = [row for row in run.rows if metric.name in row]
        if any(row[metric.name] is not None for row in rows):
            x = [float(row["step"] or 0) for row in rows]
            y = [row[metric.name] for row in rows]
            curves.append((run, Curve(run.name, x, y, colour)))
    if not curves:
        return None
    values = [y for _, curve in curves for y in curve.y if y is not None]
    steps_seen = [x for _, curve in curves for x in curve.x]
    references = ()
    if metric.name == "z_std":
        values = [*values, 0.0, 1.2]
        references = ((1.0, "1: spread over the sphere"),)
    elif metric.unit == "%" or metric.typical:
        values = [*values, 0.0]
    low, high = min(values), max(values)
    wide = metric.name == "grad_norm" and low > 0 and high > 30 * low
    y_axis = (
        axes.logarithmic(values)
        if wide
        else axes.linear(values, count=6 if references else 4, unit=metric.unit)
    )
    value_of: Callable = typical if metric.typical else last
    shown = [(run, value_of(run, metric.name), c.colour) for run, c in curves]
    told = "; ".join(f"{run.name} {_value(v, metric)}" for run, v, _ in shown)
    word = "median" if metric.typical else "last"
    figure = charts.lines(
        [curve for _, curve in curves],
        label=f"{metric.title} over steps; {word} value: {told}",
        x_axis=axes.linear([0.0, *steps_seen]),
        y_axis=y_axis,
        x_title="step",
        y_title=metric.axis + (" (log scale)" if wide else ""),
        references=references,
    )
    aside = [
        tag("span", charts.swatch(colour) if len(runs) > 1 else None, tag("b", text))
        for _, v, colour in shown
        if (text := _value(v, metric))
    ]
    kind = tag("small.note", f" {word}") if metric.typical else None
    several = len(runs) > 1
    said = [_verdict(run, metric.name, several=several) for run, _ in curves]
    note = [*filter(None, said), *([tag("p", metric.note)] if metric.note else [])]
    return card(
        metric.title,
        figure,
        tag("div.note", note) if note else None,
        aside=tag("span.legend", aside, kind),
    )


def _value(value: float | None, metric: Metric) -> str:
    if metric.unit == "%" and value is not None:
        return f"{100 * value:.1f} %"
    return number(value)


def judged(run: Record) -> list[Verdict]:
    """What the newest values say; the words of the console."""
    done, total = steps(run)
    if total is not None and done < judged_from(total):
        return []
    names = {name for row in run.rows for name in row}
    return verdicts({name: last(run, name) for name in names}, dims=run.dims)


def _verdict(run: Record, metric: str, *, several: bool) -> Markup | None:
    for v in judged(run):
        if v.metric == metric:
            good = v.level == "good"
            sign = tag(f"b.{'good' if good else 'bad'}", "✓ " if good else "⚠ ")
            return tag("p", sign, f"{run.name}, " if several else None, f"{v.text}.")
    return None


def _legend(runs: Sequence[Record], colours: Sequence[str]) -> Markup:
    items = [
        tag("li", charts.swatch(colour), run.name)
        for run, colour in zip(runs, colours, strict=True)
    ]
    return tag("ul.legend", items)


def _method(run: Record) -> str:
    return str(run.recipe.get("method"))
