"""The analysis: every section of the evaluation under the question it answers."""

from collections.abc import Callable, Sequence
from typing import Any

from rl_jax.report import cards, content, geometry, robustness, trust, words
from rl_jax.report.cards import Shown
from rl_jax.report.charts import shorten
from rl_jax.report.heat import heat_map
from rl_jax.report.markup import Markup, card, escape, missing, tag
from rl_jax.report.read import Record
from rl_jax.report.sections import SHAPES

Draw = Callable[[Sequence[Shown]], list[Markup]]

GROUPS: dict[str, dict[str, Draw]] = {
    "What the representation holds": {
        "probes": content.probes,
        "layers": content.layers,
        "differences": content.differences,
        "factors": content.factors,
    },
    "Geometry": {
        "geometry": geometry.geometry,
        "alignment": geometry.alignment,
        "similarity": geometry.similarity,
        "drift": geometry.drift,
        "guarantee": geometry.guarantee,
        "collapse": geometry.collapse,
        "cka": geometry.cka,
    },
    "Trust": {"calibration": trust.calibration, "sets": trust.sets},
    "Robustness": {
        "corruptions": robustness.corruptions,
        "attacks": robustness.attacks,
    },
}
# What every run has that was evaluated whole, if it has labels or images.


def section(
    runs: Sequence[Record],
    colours: Sequence[str],
    *,
    comparison: dict[str, Any] | None = None,
) -> Markup:
    """All cards, those of several runs side by side, with what is missing first.

    Args:
      runs: at least one evaluated.
      colours: of the runs.
      comparison: of the runs, as `sections.comparison` gives it.
    """
    alone = len(runs) == 1
    evaluated = [run for run in runs if run.evaluation is not None]
    out: list[Any] = [_absent(run, alone=alone) for run in evaluated]
    out += _checkpoints(evaluated)
    if comparison is not None:
        out += [_group("Between the runs", between(comparison))]
    for title, known in GROUPS.items():
        found = [_cards(name, draw, runs, colours) for name, draw in known.items()]
        out.append(_group(title, [each for several in found for each in several]))
    others = dict.fromkeys(
        name
        for run in evaluated
        for name in (run.evaluation.sections if run.evaluation else None) or ()
        if name not in SHAPES
    )
    found = [_cards(name, _unknown, runs, colours) for name in others]
    out.append(_group("More", [each for several in found for each in several]))
    return escape(out)


def between(comparison: dict[str, Any]) -> list[Markup]:
    """Differences of the runs with their intervals, and how alike their h are."""
    names = comparison["runs"]
    short = [shorten(name, 14) for name in names]
    rows = [
        (f"{short[row['a']]} − {short[row['b']]}", row)
        for row in comparison["rows"][:60]
    ]
    notes = [tag("p.note", cards.stop(note)) for note in comparison["notes"]]
    out = []
    if rows or notes:
        figures = content.forests(rows) if rows else None
        out.append(card("Differences", figures, notes, level=4))
    if comparison["cka"]:
        figure = heat_map(
            comparison["cka"], names, label=f"CKA of h of {', '.join(names)}"
        )
        text = "CKA of h of each run with h of each other: 1 the same up to rotation "
        text += "and scale, 0 unrelated."
        note = tag("p.note", text)
        out.append(card("How alike the runs are", figure, note, level=4))
    return out


def _cards(
    name: str, draw: Draw, runs: Sequence[Record], colours: Sequence[str]
) -> list[Markup]:
    shown = [
        Shown(run, colour, found, len(runs) == 1)
        for run, colour in zip(runs, colours, strict=True)
        if run.evaluation and (found := (run.evaluation.sections or {}).get(name))
    ]
    if not shown:
        return []
    measured = [each for each in shown if each.section.values]
    if not measured:
        return _unknown(shown)
    # Where nothing can be drawn the lines still say why.
    bare = [each for each in shown if not each.section.values]
    return [*(draw(measured) or _unknown(measured)), *(_unknown(bare) if bare else ())]


def _unknown(shown: Sequence[Shown]) -> list[Markup]:
    if not any(each.section.lines for each in shown):
        return []
    return [card(shown[0].section.title, cards.notes(shown, folded=False), level=4)]


def _group(title: str, found: Sequence[Markup]) -> Markup | None:
    if not found:
        return None
    return escape([tag("h3.group", title), tag("div.flow", found)])


def _checkpoints(runs: Sequence[Record]) -> list[Markup]:
    """What was measured: once where it is the same of all."""
    said = {
        run.name: run.evaluation.checkpoint
        for run in runs
        if run.evaluation and run.evaluation.checkpoint and run.evaluation.sections
    }
    if len(set(said.values())) == 1:
        return [tag("p.note", f"Of {next(iter(said.values()))}.")]
    return [tag("p.note", f"{name}: of {text}.") for name, text in said.items()]


def _absent(run: Record, *, alone: bool) -> Markup | None:
    """What a whole evaluation has and this one has not, with the command that adds it.

    Of features everything that can be measured is measured at once.
    """
    evaluation = run.evaluation
    assert evaluation is not None
    who = "" if alone else f"{run.name}: "
    if evaluation.sections is None:
        adds = words.evaluate(run), " measures the rest."
        return missing(f"{who}Only the table was measured; ", *adds)
    if run.features:
        return None
    absent = [name for name in evaluation.skipped if name not in evaluation.sections]
    if not absent:
        return None
    adds = words.evaluate(run), " adds what the data allow."
    return missing(f"{who}Not in this evaluation: {', '.join(absent)}; ", *adds)
