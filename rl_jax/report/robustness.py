"""What is left of the accuracy under corruptions and under attack."""

from collections.abc import Sequence
from typing import NamedTuple

from rl_jax.report import axes, cards, words
from rl_jax.report.bars import Bar, Group, bars
from rl_jax.report.cards import Shown
from rl_jax.report.charts import Curve
from rl_jax.report.markup import Markup, escape, tag
from rl_jax.report.multiples import multiples
from rl_jax.report.sections import Interval
from rl_jax.report.tracks import Track, tracks

_NORMS = {"linf": "ℓ∞", "l2": "ℓ₂"}
_MOST = 40  # corruptions


class _Series(NamedTuple):
    """Accuracies of a representation."""

    name: str
    colour: str
    by: dict[str, list[float | None]]
    clean: float | None
    baseline: bool


def corruptions(shown: Sequence[Shown]) -> list[Markup]:
    """Accuracy under each corruption, mean and by severity."""
    series = _series(shown)
    families = {
        family: names[:_MOST]
        for family, names in shown[0].section.values["families"].items()
    }
    if not series or not any(families.values()):
        return []
    groups = []
    if any(each.clean is not None for each in series):
        clean = [Bar(s.name, s.clean, s.colour, s.baseline) for s in series]
        groups.append(Group("clean", clean))
    for family, names in families.items():
        groups.append(Group(_spaced(family), []))
        groups += [
            Group(
                _spaced(name),
                [
                    Bar(s.name, _mean(s.by.get(name)), s.colour, s.baseline)
                    for s in series
                ],
            )
            for name in names
        ]
    places = [f"{s:g}" for s in shown[0].section.values["severities"]]
    small = [
        (
            _spaced(family),
            [(_spaced(name), _curves(series, name, len(places))) for name in names],
        )
        for family, names in families.items()
    ]
    legend = cards.legend((each.colour, each.name) for each in series)
    bar = bars(groups, label="accuracy under corruptions", x_title="mean accuracy")
    charts = multiples(small, places=places)
    body = [
        legend,
        _mean_errors(shown),
        tag(
            "div.halves",
            tag("div", bar),
            tag(
                "div",
                tag("p.note", "Accuracy in % from the mildest severity to the worst."),
                charts,
            ),
        ),
    ]
    return [cards.joint("Corruptions", shown, body, kind=".across")]


def _series(shown: Sequence[Shown]) -> list[_Series]:
    """What one run has; of several h of each, and the raw pixels once."""
    out: list[_Series] = []
    for each in shown:
        values = each.section.values
        for i, (name, by) in enumerate(values["accuracy"].items()):
            base = name in words.BASELINES
            if not _kept(each, name, [series.baseline for series in out]):
                continue
            colour = cards.colour(name, i) if each.alone or base else each.colour
            text = each.name
            if each.alone or base:
                text = words.representation(name)
                agree = all(
                    by == other.section.values["accuracy"].get(name) for other in shown
                )
                text = text if agree else f"{text}, {each.name}"
            out.append(_Series(text, colour, by, values["clean"].get(name), base))
    return sorted(out, key=lambda series: series.baseline)


def _kept(each: Shown, name: str, baselines: Sequence[bool]) -> bool:
    """Whether a representation of a run is drawn among those of other runs."""
    return each.alone or name == "h" or (name == "raw" and not any(baselines))


def _mean_errors(shown: Sequence[Shown]) -> Markup | None:
    said = [
        f"{each.name or words.representation(name)} {words.told(value, unit='%')}"
        for each in shown
        for name, value in (each.section.values["mce"] or {}).items()
        if value.value is not None and (each.alone or name == "h")
    ]
    baseline = shown[0].section.values["baseline"]
    if not said:
        return None
    text = "Mean corruption error"
    if baseline:
        text += f", 100 % is that of {words.representation(baseline)}"
    return tag("p", f"{text}: {'; '.join(said)}.")


def _curves(series: Sequence[_Series], name: str, count: int) -> list[Curve]:
    x = [float(i) for i in range(count)]
    return [
        Curve(each.name, x, each.by[name], each.colour)
        for each in series
        if name in each.by
    ]


def _mean(values: Sequence[float | None] | None) -> float | None:
    known = [value for value in values or () if value is not None]
    return (
        sum(known) / len(known) if known and len(known) == len(values or ()) else None
    )


def _spaced(name: str) -> str:
    return name.replace("_", " ")


def attacks(shown: Sequence[Shown]) -> list[Markup]:
    """Accuracy against the radius of the attack, for each norm."""
    rows = [(each, row) for each in shown for row in each.section.values["rows"]]
    out = []
    for norm in dict.fromkeys(row["norm"] for _, row in rows):
        curves: list[Track] = []
        baselines: list[bool] = []
        for i, (each, row) in enumerate(rows):
            name = row["representation"]
            base = name in words.BASELINES
            if row["norm"] != norm or not row["radii"]:
                continue
            if not _kept(each, name, baselines):
                continue
            baselines.append(base)
            colour = cards.colour(name, i) if each.alone or base else each.colour
            text = each.called(words.representation(name))
            values = [Interval(v) for v in row["accuracy"]]
            curves.append(Track(text, row["radii"], values, colour))
        if not any(v.value is not None for c in curves for v in c.values):
            continue
        sign = _NORMS.get(norm, norm)
        figure = tracks(
            curves,
            label=f"accuracy under {sign} attacks by radius",
            x_axis=axes.linear([0.0, *(x for c in curves for x in c.x)]),
            x_title=f"radius ({sign}; pixels in [0, 1])",
            y_title="accuracy under attack",
            unit="%",
            whole=True,
        )
        legend = cards.legend((c.colour, c.name) for c in curves)
        out.append(tag("div", legend, figure))
    if not out:
        return []
    said = []
    for each in shown:
        steps, images = (each.section.values[key] for key in ("steps", "images"))
        who = "" if each.alone else f"{each.name}: "
        facts = [f"{steps:,.0f} steps of PGD"] if steps else []
        facts += [f"{images:,.0f} images"] if images else []
        said += [tag("p.note", f"{who}{', '.join(facts)}.")] if facts else []
        for line in each.section.values["masking"] or ():
            said.append(tag("p.note", f"{who}{cards.stop(line)}"))
    kind = ".across" if len(out) > 1 else ""
    body = tag("div.halves", out) if len(out) > 1 else out
    return [cards.joint("Attacks", shown, body, escape(said), kind=kind)]
