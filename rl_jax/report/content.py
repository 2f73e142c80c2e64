"""What a representation holds: probes, layers, differences, known factors."""

from collections.abc import Sequence
from typing import Any

from rl_jax.report import cards, words
from rl_jax.report.cards import Shown
from rl_jax.report.intervals import Mark, Row, intervals
from rl_jax.report.markup import Markup, escape, tag
from rl_jax.report.sections import Interval

_MOST_ROWS = 60
_SCORES = {
    "mcc": ("MCC", "correlation of paired dimensions"),
    "r2": ("linear R²", "factors from the code"),
    "mig": ("MIG", "mutual information gap"),
    "dci_disentanglement": ("DCI", "disentanglement"),
    "dci_completeness": ("DCI", "completeness"),
    "dci_informativeness": ("DCI", "informativeness"),
    "sap": ("SAP", "separated predictability"),
    "factor_vae": ("FactorVAE", "majority vote"),
}


def probes(shown: Sequence[Shown]) -> list[Markup]:
    """Linear, ridge and MLP probes with all labels."""
    rows = []
    for each in shown:
        for row in each.section.values["rows"][:_MOST_ROWS]:
            # Beside other runs the baselines would only repeat themselves.
            if not each.alone and row["representation"] in words.BASELINES:
                continue
            name = words.representation(row["representation"])
            linear = Interval(None)
            if (evaluation := each.run.evaluation) and evaluation.shares:
                found = words.find(evaluation, row["representation"])
                score = found.probe.get("all") if found else None
                linear = Interval(score.mean if score else None)
            values = (linear, row["ridge"], row["mlp"])
            cells = [words.interval(value, unit="%") for value in values]
            dim = tag("small", f" [{row['dim']}]")
            rows.append((each.head(escape([name, dim])), *cells))
    heads = ("accuracy, %", "linear", "ridge", "MLP")
    title = "Other probes, all labels"
    return [cards.joint(title, shown, cards.table(heads, rows))] if rows else []


def layers(shown: Sequence[Shown]) -> list[Markup]:
    """How accuracy grows from layer to layer."""
    found = [each for each in shown if each.section.values["rows"]]
    names = {tuple(r["name"] for r in e.section.values["rows"]) for e in found}
    title = "Layer by layer"
    if len(found) > 1 and len(names) == 1:
        figures = []
        for kind, text in (("probe", "linear probe"), ("knn", "k-NN")):
            figures.append(_layers(found, kind, f"{text} accuracy"))
        return [cards.joint(title, found, cards.runs(found), figures)]
    return cards.apiece(title, found, _own_layers)


def _layers(found: Sequence[Shown], kind: str, x_title: str) -> Markup | None:
    every = [each.section.values["rows"][:_MOST_ROWS] for each in found]
    rows = [
        Row(
            same[0]["name"],
            [
                Mark(each.name, row[kind], each.colour)
                for each, row in zip(found, same, strict=True)
            ],
        )
        for same in zip(*every, strict=True)
    ]
    return intervals(rows, label=x_title, x_title=x_title, unit="%", joined=True)


def _own_layers(each: Shown) -> Markup:
    series = (("probe", "linear probe", "c0"), ("knn", "k-NN", "c1"))
    rows = [
        Row(row["name"], [Mark(text, row[kind], c) for kind, text, c in series])
        for row in each.section.values["rows"][:_MOST_ROWS]
    ]
    label = "accuracy from each layer"
    figure = intervals(rows, label=label, x_title="accuracy", unit="%", joined=True)
    return escape([cards.legend((c, text) for _, text, c in series), figure])


def differences(shown: Sequence[Shown]) -> list[Markup]:
    """How much better a representation is than another, on the same images."""
    rows = []
    for each in shown:
        for row in each.section.values["rows"][:_MOST_ROWS]:
            a, b = (words.representation(row[key]) for key in ("a", "b"))
            rows.append((each.called(f"{a} − {b}"), row))
    if not rows:
        return []
    return [cards.joint("What training gained", shown, forests(rows))]


def forests(rows: Sequence[tuple[str, dict[str, Any]]]) -> Markup:
    """Differences of accuracies with their intervals, a figure for each classifier.

    Args:
      rows: a name, and a row of the section "differences" or of a comparison.
    """
    kinds: dict[str, list[Row]] = {}
    for name, row in rows:
        what = f"{words.kind(row['measure'])}, {words.labels(row['labels'])}"
        kinds.setdefault(what, []).append(_difference(name, row))
    figures = [
        (
            tag("p.note", f"Accuracy of {what}:"),
            intervals(
                found,
                label=f"differences in accuracy, {what}",
                x_title="difference in accuracy, points",
                unit="%",
                references=((0.0, "no difference"),),
                stacked=True,
            ),
        )
        for what, found in kinds.items()
    ]
    note = (
        "The bar is the 95 % interval of a paired bootstrap over the scored examples. "
        "Grey: it holds 0, the difference may be chance."
    )
    return escape([figures, tag("p.note", note)])


def _difference(name: str, row: dict[str, Any]) -> Row:
    """A row of the plot; its colour says on which side of 0 the interval is."""
    value = Interval(row["difference"], row["low"], row["high"])
    _, low, high = value
    colour = "base"
    if low is not None and high is not None and (low > 0 or high < 0):
        colour = "c2" if low > 0 else "c1"
    return Row(name, [Mark("", value, colour)])


def factors(shown: Sequence[Shown]) -> list[Markup]:
    """Scores against known factors."""
    columns = []
    for each in shown:
        rows = each.section.values["rows"][:12]
        # Beside other runs there is room for one representation of each.
        first = [row for row in rows if row["name"] == "h"] or rows[:1]
        columns += [(each, row) for row in (rows if each.alone else first)]
    known = dict.fromkeys(k for _, row in columns for k in row["scores"])
    order = [k for k in _SCORES if k in known]
    order += [k for k in known if k not in _SCORES]
    heads: list[object] = ["score"]
    for each, row in columns:
        heads.append(each.head(words.representation(row["name"])))
    rows = [
        (
            _score(key),
            *(
                words.interval(row["scores"].get(key, Interval(None)))
                for _, row in columns
            ),
        )
        for key in order
    ]
    content = [cards.table(heads, rows)] if rows else []
    found = [each for each in shown if (each.section.values["r2"] or {}).get("h")]
    names = dict.fromkeys(n for e in found for n in e.section.values["r2"]["factors"])
    if names:
        content.append(_regressions(found, list(names)[:_MOST_ROWS]))
    if not content:
        return []
    return [cards.joint("Known factors", shown, content, kind=".prose")]


def _score(key: str) -> Markup:
    name, text = _SCORES.get(key, (key.replace("_", " "), ""))
    return escape([name, tag("small.line", text) if text else None])


def _regressions(found: Sequence[Shown], names: Sequence[str]) -> Markup:
    rows = []
    for name in names:
        marks = []
        for each in found:
            r2 = each.section.values["r2"]
            value = dict(zip(r2["factors"], r2["h"], strict=True)).get(name)
            # Below 0 it is worse than the mean; how far below says no more.
            value = None if value is None else max(value, -0.05)
            marks.append(Mark(each.name, Interval(value), each.colour))
        rows.append(Row(name, marks))
    text = "R² of a linear regression on h"
    figure = intervals(rows, label=text, x_title=text, references=((1.0, ""),))
    return escape([cards.runs(found), figure])
