"""The one number of a run, beside its baselines, and what it says."""

import math

from rl_jax.report import training, words
from rl_jax.report.markup import Markup, command, missing, number, tag
from rl_jax.report.read import Entry, Evaluation, Record, Score


def headline(run: Record) -> Markup:
    """The one number of a run, beside its baselines, and what it says."""
    evaluation = run.evaluation
    if evaluation is None:
        return missing(
            "Not evaluated yet: the accuracy table, the neighbours and the map come "
            "from ",
            command("evaluate", run.folder),
            ".",
        )
    if not evaluation.table or not evaluation.shares:
        return _label_free(run, evaluation)
    share = words.headline_share(evaluation)
    first = words.find(evaluation, "h") or evaluation.table[0]
    value = first.probe[share]
    meters = [
        _meter(
            words.short(entry),
            entry.probe[share],
            words.COLOURS.get(entry.representation, "c3"),
        )
        for entry in (
            first,
            *(words.find(evaluation, name) for name in words.BASELINES),
        )
        if entry is not None
    ]
    return tag(
        "div.hero.card",
        tag(
            "div",
            tag("div.big", words.score(value, unit=" %")),
            tag(
                "p",
                "linear-probe accuracy of ",
                tag("b", first.representation),
                words.whose(first.network),
            ),
            tag(
                "p.note",
                f"{words.labels(share)}, {evaluation.test_images:,} test images",
            ),
        ),
        tag(
            "div",
            meters,
            tag("p", _comparison(evaluation, first, share)),
            verdict(evaluation),
            _failures(run),
        ),
    )


def verdict(evaluation: Evaluation) -> Markup:
    """The evaluation's own words on collapse; others may hold of a batch."""
    good = evaluation.verdict.lower().startswith("healthy")
    kind, _, rest = evaluation.verdict.partition(":")
    pill = tag(f"span.pill.{'good' if good else 'bad'}", "✓ " if good else "⚠ ", kind)
    return tag("p", pill, " ", rest.strip(), " (clean images, held out)")


def _failures(run: Record) -> list[Markup]:
    """What training calls useless, of its views; clean images need not show it."""
    return [
        tag("p", tag("span.pill.bad", "⚠ failure"), f" {v.text} (in training)")
        for v in training.judged(run)
        if v.level == "bad"
    ]


def _label_free(run: Record, evaluation: Evaluation) -> Markup:
    name = "h" if "h" in evaluation.geometry else next(iter(evaluation.geometry), "")
    values = evaluation.geometry.get(name, {})
    big = tag("div.big", number(values.get("rank_me")), tag("small", " RankMe"))
    said = f"effective dimensions of {name}, of {number(values.get('dim'), 4)}"
    return tag(
        "div.hero.card",
        tag("div", big, tag("p", said)),
        tag(
            "div",
            verdict(evaluation),
            _failures(run),
            tag("p.note", "No labels: no accuracy."),
        ),
    )


def _meter(name: str, value: Score, colour: str) -> Markup:
    width = min(100.0, max(0.0, 100 * (value.mean or 0)))
    bar = tag("span", tag(f"i.{colour}", style=f"width:{width:.1f}%"))
    return tag("div.meter", tag("span", name), bar, tag("span", words.score(value)))


def _comparison(evaluation: Evaluation, first: Entry, share: str) -> str:
    """What the number says beside the baselines, no more than the spread allows."""
    said = []
    for name, text in (("raw", "raw pixels"), ("random", "the untrained encoder")):
        entry, value = words.find(evaluation, name), first.probe[share]
        other = entry.probe[share] if entry else None
        if other is None or value.mean is None or other.mean is None:
            continue
        gap = value.mean - other.mean
        noise = abs(gap) < math.hypot(value.std or 0, other.std or 0)
        if value.std is None:
            low, high = words.sampling(value.mean, evaluation.test_images)
            noise = low <= other.mean <= high
        size = f"{abs(100 * gap):.1f}"
        side = f"{size} points {'above' if gap > 0 else 'below'} {text}"
        side = f"level with {text}" if size == "0.0" else side
        said.append(f"{side}{' (within the noise)' if noise else ''}")
    if not said:
        return ""
    text = f"{first.representation} is {' and '.join(said)}"
    return f"{text}, with the same labels and images."
