"""How a representation lies in space: spread, angles, similarity, collapse."""

from collections.abc import Sequence

from rl_jax.report import axes, cards, charts, words
from rl_jax.report.cards import Shown
from rl_jax.report.heat import MOST_NAMED, heat_map
from rl_jax.report.histogram import histogram
from rl_jax.report.intervals import Mark, Row, intervals, known
from rl_jax.report.markup import Markup, escape, number, tag
from rl_jax.report.plane import Point, plane
from rl_jax.report.sections import Interval
from rl_jax.report.tracks import Track, tracks

_MEASURES = {
    "rank_me": ("RankMe", "dimensions in use: exp of the spectrum's entropy"),
    "effective_rank": (
        "effective rank",
        "the same of the covariance, so without the mean",
    ),
    "alpha_req": (
        "α-ReQ",
        "the spectrum falls as rank^−α; 0: all directions alike, near 1: often best",
    ),
    "std": ("spread on the sphere", "std of normalised × √D; 0: collapsed, 1: spread"),
    "hubness": ("hubness", "skewness of how often one is a neighbour; 0: even"),
    "orphans": ("orphans", "share that is nobody's neighbour"),
    "margin": ("margin", "distance to the boundary of class means, over the spread"),
    "separation": (
        "separation",
        "distance of the nearest class means, over the spread",
    ),
    "fisher": ("Fisher ratio", "between classes over within; higher is better"),
}
_COLLAPSE = {
    "within": ("NC1 within classes", "spread within over that between"),
    "equinorm": ("NC2 equal lengths", "std over mean of the class means' lengths"),
    "equiangle": ("NC2 equal angles", "std of their cosines"),
    "angle": ("NC2 distance to the ETF", "largest |cosine − expected|"),
    "duality": ("NC3 duality", "classifier against class means"),
    "nearest": ("NC4 nearest mean", "share it disagrees with the classifier"),
}
_MOST_COLUMNS = 24


def geometry(shown: Sequence[Shown]) -> list[Markup]:
    """A table with a column a representation."""
    columns = []
    for each in shown:
        for row in each.section.values["rows"]:
            # Beside other runs the baselines would only repeat themselves.
            if each.alone or row["name"] not in words.BASELINES:
                columns.append((each, row))
    columns = columns[:_MOST_COLUMNS]
    known_keys = dict.fromkeys(k for _, row in columns for k in row["measures"])
    order = [k for k in _MEASURES if k in known_keys]
    order += [k for k in known_keys if k not in _MEASURES]
    if not order:
        return []
    rows = []
    for key in order:
        name, text = _MEASURES.get(key, (key.replace("_", " "), ""))
        said = [name, tag("small.line", text) if text else None]
        rows.append(
            (
                said,
                *(
                    words.interval(row["measures"].get(key, Interval(None)))
                    for _, row in columns
                ),
            )
        )
    heads = ["", *(e.head(words.representation(r["name"])) for e, r in columns)]
    return [
        cards.joint("Geometry", shown, cards.table(heads, rows), kind=".across.prose")
    ]


def alignment(shown: Sequence[Shown]) -> list[Markup]:
    """The alignment-uniformity plane, and LiDAR below it."""
    points, limits, ranks = [], [], []
    shapes: dict[str, int] = {}
    for each in shown:
        for i, point in enumerate(each.section.values["points"][:12]):
            if not each.alone and point["name"] in words.BASELINES:
                continue
            name = words.representation(point["name"])
            if point["lidar"].value is not None:
                ranks.append((each.called(name), words.interval(point["lidar"])))
            if None in (point["alignment"].value, point["uniformity"].value):
                continue
            colour = cards.colour(point["name"], i) if each.alone else each.colour
            values = (point["alignment"], point["uniformity"])
            # Names of many runs would cover the points: shapes tell h from z.
            shape = None if each.alone else shapes.setdefault(name, len(shapes))
            points.append(Point(each.called(name), *values, colour, shape))
        limits.append(each.section.values["limit"])
    if not points and not ranks:
        return []
    once = [limit for limit in dict.fromkeys(limits) if limit is not None]
    figure = plane(points, limits=once) if points else None
    signs = [
        tag("li", charts.swatch("base", shape % len(charts.SHAPES)), name)
        for name, shape in shapes.items()
    ]
    key = [cards.runs(shown), tag("ul.legend", signs) if signs else None]
    told = tag("small.line", "directions that tell images apart under augmentation")
    below = cards.table(["", ["LiDAR", told]], ranks) if ranks else None
    return [cards.joint("Alignment and uniformity", shown, key, figure, below)]


def similarity(shown: Sequence[Shown]) -> list[Markup]:
    """Cosines of two views of an image, and of two images."""
    title = "Similarity of pairs"
    edges = [each.section.values["edges"] for each in shown]
    if len(shown) == 1 or any(each != edges[0] for each in edges):
        return cards.apiece(title, shown, _similarity)
    groups = [
        (each.called(name), each.section.values[key], f"{each.colour}{kind}")
        for each in shown
        for name, key, kind in (
            ("positives", "positive", ""),
            ("negatives", "negative", " dashed"),
        )
    ]
    label = "cosines of positives and of negatives"
    figure = histogram(edges[0], groups, label=label, x_title="cosine")
    note = tag("p.note", "Filled: two views of an image. Dashed: two images.")
    return [cards.joint(title, shown, cards.runs(shown), figure, note)]


def _similarity(each: Shown) -> Markup:
    values = each.section.values
    groups = (
        ("positives", values["positive"], "c0"),
        ("negatives", values["negative"], "c1"),
    )
    edges = values["edges"]
    means = ("positive_mean", "negative_mean")
    references = [
        (value, f"mean {number(value, 2)}")
        for key in means
        if (value := values[key]) is not None and edges[0] <= value <= edges[-1]
    ]
    figure = histogram(
        edges,
        groups,
        label="cosines of positives and of negatives",
        x_title="cosine",
        references=references,
    )
    legend = cards.legend((c, name) for name, _, c in groups)
    told = {
        "temperature": "temperature",
        "entropy": "softmax entropy",
        "max_softmax": "largest softmax",
    }
    facts = [
        f"{text} {number(values[key])}"
        for key, text in told.items()
        if values[key] is not None
    ]
    facts = tag("p.note", " · ".join(facts)) if facts else None
    return escape([legend, figure, facts])


def cka(shown: Sequence[Shown]) -> list[Markup]:
    """How alike the layers of a network are."""
    found = [each for each in shown if each.section.values["names"]]
    rows = [each.section.values["rows"] for each in found]
    text = "Debiased linear CKA: 1 the same up to rotation and scale, 0 unrelated"
    text += f"; on {rows[0]:,.0f} images." if rows and rows[0] else "."
    return cards.apiece("Similarity of layers (CKA)", found, _cka, note=text)


def _cka(each: Shown) -> Markup:
    values = each.section.values
    names = [words.representation(name) for name in values["names"]]
    label = f"CKA of {len(names)} representations: {', '.join(names[:MOST_NAMED])}"
    return heat_map(values["matrix"], names, label=label)


def drift(shown: Sequence[Shown]) -> list[Markup]:
    """How h of the checkpoints comes to be that of the last one."""
    found = [each for each in shown if each.section.values["steps"]]
    if not found:
        return []
    figures = []
    for key, text, unit in (
        ("cka", "CKA with the last checkpoint", ""),
        ("probe", "linear probe accuracy", "%"),
    ):
        curves = [
            Track(each.name or text, v["steps"], v[key], each.colour)
            for each in found
            if known((v := each.section.values)[key])
        ]
        if curves:
            x_axis = axes.linear([0.0, *(x for c in curves for x in c.x)])
            figures.append(
                tracks(
                    curves,
                    label=f"{text} over steps",
                    x_axis=x_axis,
                    x_title="step",
                    y_title=text,
                    unit=unit,
                )
            )
    figures += [_checkpoints(each) for each in found if each.section.values["matrix"]]
    return [cards.joint("Drift over checkpoints", found, cards.runs(found), figures)]


def _checkpoints(each: Shown) -> Markup:
    values = each.section.values
    names = [f"{step:,.0f}" for step in values["steps"]]
    label = f"CKA of the checkpoints of steps {', '.join(names[:MOST_NAMED])}"
    label += f", {each.name}" if each.name else ""
    return heat_map(values["matrix"], names, label=label)


def collapse(shown: Sequence[Shown]) -> list[Markup]:
    """Neural collapse: the angles of the class means, and what is 0 at collapse."""
    found = [each for each in shown if len(each.section.values["cosines"]) > 1]
    heads = ["0 at collapse", *(charts.shorten(e.name or "h", 14) for e in shown)]
    rows = [
        (
            [name, tag("small.line", text)],
            *(words.interval(each.section.values[key]) for each in shown),
        )
        for key, (name, text) in _COLLAPSE.items()
    ]
    table = cards.table(heads, rows)
    out = [cards.joint("Neural collapse", shown, table, kind=".prose")]
    text = "Cosines of the centred class means. At neural collapse all are −1/(C−1), "
    text += "those of a simplex ETF: the dashed line."
    title = "Angles of the class means"
    return out + cards.apiece(title, found, _angles, note=text, said=False)


def _angles(each: Shown) -> Markup:
    values = each.section.values
    names, expected = values["classes"], values["expected"]
    if expected is None:
        expected = -1 / (len(names) - 1)
    apart = [
        value
        for i, row in enumerate(values["cosines"])
        for k, value in enumerate(row)
        if i < k and value is not None
    ]
    full = max([2 * abs(expected), *map(abs, apart)]) or 1.0
    label = f"cosines of the means of {len(names)} classes, expected {expected:.3f}"
    figures = [heat_map(values["cosines"], names, label=label, full=min(full, 1.0))]
    if len(apart) > 1:
        figures.append(_cosines(apart, expected, each.colour))
    return escape(figures)


def _cosines(values: Sequence[float], expected: float, colour: str) -> Markup:
    bins = 24
    axis = axes.linear([*values, expected], count=5)
    width = (axis.high - axis.low) / bins
    counts = [0.0] * bins
    for value in values:
        counts[min(int((value - axis.low) / width), bins - 1)] += 1
    edges = [axis.low + i * width for i in range(bins)] + [axis.high]
    return histogram(
        edges,
        [("pairs of classes", counts, colour)],
        label="cosines of pairs of class means",
        x_title="cosine of two class means",
        references=[(expected, f"−1/(C−1) = {number(expected, 2)}")],
    )


def guarantee(shown: Sequence[Shown]) -> list[Markup]:
    """The loss of the mean classifier under its bound."""
    rows, marks = [], []
    for each in shown:
        for row in each.section.values["rows"][:12]:
            losses = (row["unsupervised"], row["collision"], row["supervised"])
            shown_bound = words.interval(row["bound"])
            rows.append((each.head(row["features"]), *map(number, losses), shown_bound))
            one = Mark("mean classifier", Interval(row["supervised"]), "c0")
            name = each.called(row["features"])
            marks.append(Row(name, [one, Mark("its bound", row["bound"], "c1")]))
    if not rows:
        return []
    figure, alone = None, shown[0].alone
    if known(mark.value for row in marks for mark in row.marks):
        text = "loss, bits"
        zero = ((0.0, ""),)
        figure = intervals(
            marks, label=text, x_title=text, references=zero, stacked=not alone
        )
    legend = cards.legend((("c0", "mean classifier"), ("c1", "its bound")))
    heads = ("in bits", "L_un", "c", "L_sup", "bound")
    note = tag(
        "p.note",
        "Saunshi et al. (2019): L_sup, the loss of the mean classifier over pairs of "
        "classes, is at most (L_un − c)/(1 − c), with L_un the contrastive loss of one "
        "negative and c the chance that two images share their class.",
    )
    table = cards.table(heads, rows)
    return [cards.joint("Guarantee", shown, legend, figure, table, note)]
