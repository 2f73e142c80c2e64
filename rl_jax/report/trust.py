"""Whether a classifier's probabilities can be trusted: calibration, conformal sets."""

from collections.abc import Sequence

from rl_jax.report import cards, charts, words
from rl_jax.report.cards import Shown
from rl_jax.report.intervals import Mark, Row, intervals
from rl_jax.report.markup import Markup, escape, percent, tag
from rl_jax.report.reliability import Diagram, reliability
from rl_jax.report.sections import Interval

_MEASURES = {
    "ece": ("ECE", "%"),
    "ece_mass": ("ECE, equal mass", "%"),
    "mce": ("largest bin error", "%"),
    "brier": ("Brier score", ""),
    "nll": ("cross-entropy", ""),
    "temperature": ("temperature", ""),
}
_AFTER = {"ece": ("ECE, scaled", "%"), "nll": ("cross-entropy, scaled", "")}
_KINDS = ("c0", "c1", "c2", "c3")
_MOST_CLASSES = 24


def calibration(shown: Sequence[Shown]) -> list[Markup]:
    """Reliability diagram and errors of the linear probe of h."""
    diagrams = [
        Diagram(e.name or "probe of h", e.section.values["reliability"], e.colour)
        for e in shown
    ]
    rows = []
    for source, part in ((_MEASURES, None), (_AFTER, "after")):
        for key, (name, unit) in source.items():
            found = [
                e.section.values if part is None else e.section.values[part] or {}
                for e in shown
            ]
            values = [each.get(key, Interval(None)) for each in found]
            if any(value.value is not None for value in values):
                text = f"{name}, %" if unit else name
                rows.append((text, *(words.interval(v, unit=unit) for v in values)))
    heads = ["", *(charts.shorten(each.name or "probe of h", 14) for each in shown)]
    text = "On the diagonal it is as often right as it is sure; below it is over-"
    text += "confident. Cross-entropy in nats."
    if any(e.section.values["after"] for e in shown):
        text += " Scaled: after division of the logits by the temperature."
    note = tag("p.note", text)
    figure = reliability(diagrams)
    table = cards.table(heads, rows) if rows else None
    return [
        cards.joint(
            "Calibration", shown, cards.runs(shown), figure, table, note, kind=".prose"
        )
    ]


def sets(shown: Sequence[Shown]) -> list[Markup]:
    """Coverage and size of conformal sets."""
    rows = []
    for each in shown:
        for row in each.section.values["rows"][:8]:
            coverage = words.interval(row["coverage"], unit="%")
            cells = (each.head(row["kind"]), coverage, words.interval(row["size"]))
            rows.append((row["kind"], cells))
    if not rows:
        return []
    # The same kind of several runs together, in the order of the first.
    kinds = list(dict.fromkeys(kind for kind, _ in rows))
    rows = [cells for _, cells in sorted(rows, key=lambda row: kinds.index(row[0]))]
    table = cards.table(("", "coverage, %", "classes in it"), rows)
    first = shown[0].section.values
    goal = f"{percent(1 - first['alpha'], digits=0)} %"
    text = f"The sets promise to hold the true class in {goal} of the cases"
    text += f"; means over {first['splits']:,.0f} splits." if first["splits"] else "."
    note = tag("p.note", text)
    out = [cards.joint("Conformal sets", shown, table, note)]
    drawn = [each for each in shown if _classes(each) is not None]
    return out + cards.apiece("Coverage of each class", drawn, _classes, said=False)


def _classes(each: Shown) -> Markup | None:
    """Of each class by kind; of many classes, those covered worst and best."""
    values = each.section.values
    kinds = values["rows"][: len(_KINDS)]
    index = range(len(values["classes"]))
    known = [
        i for i in index if any(row["class_coverage"][i] is not None for row in kinds)
    ]
    note = None
    if len(known) > _MOST_CLASSES:
        known.sort(key=lambda i: kinds[0]["class_coverage"][i] or 0.0)
        half = _MOST_CLASSES // 2
        note = f"The {half} classes that {kinds[0]['kind']} covers least and most, of "
        note = tag("p.note", f"{note}{len(known)}.")
        known = known[:half] + known[-half:]
    if not known:
        return None
    rows = [
        Row(
            values["classes"][i],
            [
                Mark(row["kind"], Interval(row["class_coverage"][i]), colour)
                for row, colour in zip(kinds, _KINDS, strict=False)
            ],
        )
        for i in known
    ]
    goal = 1 - values["alpha"]
    figure = intervals(
        rows,
        label="coverage by class",
        x_title="share of the class whose set holds it",
        unit="%",
        references=((goal, f"1 − α = {percent(goal, digits=0)} %"),),
    )
    legend = cards.legend(
        (colour, row["kind"]) for row, colour in zip(kinds, _KINDS, strict=False)
    )
    return escape([legend, figure, note])
