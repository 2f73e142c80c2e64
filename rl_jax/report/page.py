"""The page about one run, or about several side by side."""

import datetime
import pathlib
from collections.abc import Sequence
from typing import Any

from rl_jax import files
from rl_jax.errors import UsageError
from rl_jax.report import (
    analysis,
    charts,
    headline,
    pictures,
    results,
    setup,
    training,
    words,
)
from rl_jax.report.document import document
from rl_jax.report.markup import (
    Markup,
    escape,
    missing,
    number,
    tag,
)
from rl_jax.report.read import Record, names, read
from rl_jax.report.sections import comparison as shaped


def write(folders: Sequence[pathlib.Path], output: pathlib.Path) -> pathlib.Path:
    """Writes one self-contained HTML page about a run, or about several.

    Only files of the folders are read: `run.json`, and where they exist
    `metrics.jsonl`, `evaluation.json`, `figures.npz` and `views.png`; of several runs
    `predictions.npz`, to compare them. What is absent is said on the page, with the
    command that makes it. The same files give the same page.

    Args:
      folders: of runs or of evaluated features, at least one; the first gives the page
        its title.
      output: the HTML file; replaced atomically.

    Returns:
      `output`.

    Raises:
      UsageError: no folder, a folder that holds no run, a file that is not what its
        name says or is too large, or an output that cannot be written there.
      OSError: a full disk; the page that was there stays.
    """
    if not folders:
        raise UsageError("report: got no run; name the folder of at least one")
    folders = [pathlib.Path(folder) for folder in folders]
    runs = [
        read(folder, name=name)
        for folder, name in zip(folders, names(folders), strict=True)
    ]
    output = pathlib.Path(output)
    if output.is_dir():
        raise UsageError(f"{output} is a folder; name the HTML file to write")
    text = render(runs, _compared(runs))
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        files.write_text(output, text)
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        raise UsageError(
            f"{output} cannot be written: {error.strerror}; choose another --output"
        ) from None
    return output


def render(runs: Sequence[Record], comparison: dict[str, Any] | None = None) -> str:
    """The page as text.

    Args:
      runs: as `read` gives them, at least one.
      comparison: of several, as `sections.comparison` gives it.
    """
    several = len(runs) > 1
    colours = [f"c{i % charts.COLOURS}" for i in range(len(runs))]
    sections = [
        ("results", "Results", _results(runs, colours)),
    ]
    if any(run.evaluation for run in runs):
        found = analysis.section(runs, colours, comparison=comparison)
        sections.append(("analysis", "Analysis", found))
    trained = [(r, c) for r, c in zip(runs, colours, strict=True) if not r.features]
    if trained:
        found = training.section(*map(list, zip(*trained, strict=True)))
        sections.append(("training", "Training", found))
    sections += [
        ("representation", "Representation", _representation(runs)),
        ("setup", "Data and setup", setup.section(runs)),
    ]
    title = " · ".join(run.name for run in runs) if several else words.title(runs[0])
    links = [tag("a", text, href=f"#{name}") for name, text, _ in sections]
    page = document(
        title,
        [_header(runs, colours), tag("nav", links)],
        [_section(*section) for section in sections],
    )
    return f"{page}\n"


def _compared(runs: Sequence[Record]) -> dict[str, Any] | None:
    """What the predictions of several runs say of their differences."""
    runs = [run for run in runs if (run.folder / "predictions.npz").exists()]
    if len(runs) < 2:
        return None
    from rl_jax.run.compare import compare  # takes seconds to import jax

    try:
        found = compare([run.folder for run in runs])
        return shaped({**found, "runs": [run.name for run in runs]})
    except (UsageError, TypeError, ValueError) as error:
        notes = [f"no differences between the runs: {error}"]
        return {"runs": [], "rows": [], "cka": None, "notes": notes}


def _section(name: str, title: str, content: Markup) -> Markup:
    return tag("section", tag("h2", title, id=name), content)


def _header(runs: Sequence[Record], colours: Sequence[str]) -> Markup:
    if len(runs) == 1:
        run = runs[0]
        return escape(
            [
                tag("div.over", f"rl_jax report · {run.name}"),
                tag("h1", words.title(run)),
                tag("p.note", _facts(run)),
                headline.headline(run),
            ]
        )
    return escape(
        [
            tag("div.over", "rl_jax report"),
            tag("h1", f"{len(runs)} runs side by side"),
            _overview(runs, colours),
        ]
    )


def _facts(run: Record) -> str:
    if run.features and run.evaluation:
        arrays = [f"{name} {shape}" for name, shape in run.features.arrays.items()]
        return " · ".join([run.features.file, *arrays])
    done, total = training.steps(run)
    said = [f"{done:,} of {total:,} steps" if total else f"{done:,} steps"]
    for name, text in (("batch_size", "batch size"), ("seed", "seed")):
        value = run.recipe.get(name)
        said += [f"{text} {value:,}"] if isinstance(value, int) else []
    if "encoder" in run.recipe:
        said.append(words.factory(run, "encoder"))
    if isinstance(devices := run.environment.get("devices"), str):
        said.append(devices)
    stamp = training.last(run, "time")
    if stamp is not None and 0 < stamp < 4e9:
        when = datetime.datetime.fromtimestamp(stamp, datetime.UTC)
        said.append(f"{when:%Y-%m-%d %H:%M} UTC")
    return " · ".join(said)


def _overview(runs: Sequence[Record], colours: Sequence[str]) -> Markup:
    """A line for each run: what it is, how far it is, what came of it."""
    rows, numbers, one_data = [], [], not _differ(runs)
    tables = [r.evaluation for r in runs if r.evaluation and r.evaluation.table]
    common = words.headline_share(*tables) if tables else ""
    for run in runs:
        evaluation = run.evaluation
        value = raw = None
        share = ""
        if evaluation and evaluation.table:
            share = common or words.headline_share(evaluation)
            first = words.find(evaluation, "h") or evaluation.table[0]
            pixels = words.find(evaluation, "raw")
            value = first.probe[share]
            raw = pixels.probe[share] if pixels else None
        numbers.append((value, raw, share))
    means: dict[str, list[float]] = {}  # of other labels they do not compare
    for value, _, share in numbers:
        if value is not None and value.mean is not None:
            means.setdefault(share, []).append(value.mean)
    for run, colour, (value, raw, share) in zip(runs, colours, numbers, strict=True):
        rivals = means.get(share, [])
        rivals = rivals if one_data else []
        best = value is not None and len(rivals) > 1 and value.mean == max(rivals)
        geometry = run.evaluation.geometry.get("h", {}) if run.evaluation else {}
        done, total = training.steps(run)
        name = [charts.swatch(colour), run.name]
        cells = [
            words.title(run),
            "–" if run.features else f"{done:,} / {total:,}" if total else f"{done:,}",
            number(training.last(run, "z_std")),
            number(geometry.get("rank_me")),
            words.score(raw),
        ]
        accuracy = [words.score(value), tag("small.line", words.labels(share))]
        rows.append(
            tag(
                "tr",
                tag("th", name, scope="row"),
                tag("td", accuracy if share else "–", class_="best" if best else None),
                [tag("td", cell) for cell in reversed(cells)],
            )
        )
    heads = ("run", "probe of h, %", "raw pixels, %", "RankMe of h", "collapse meter")
    heads += ("steps", "method and data")
    table = tag(
        "table",
        tag("thead", tag("tr", [tag("th", h, scope="col") for h in heads])),
        tag("tbody", rows),
    )
    return tag("div.card", tag("div.scroll", table))


def _differ(runs: Sequence[Record]) -> bool:
    """Whether runs have learned from different data, as far as is known."""
    return len({setup.show(r.recipe.get("data")) for r in runs if not r.features}) > 1


def _results(runs: Sequence[Record], colours: Sequence[str]) -> Markup:
    several = len(runs) > 1
    out = []
    if _differ(runs):
        text = "The runs use different data: their accuracies do not compare."
        out.append(missing(text))
    measured = [run for run in runs if run.evaluation and run.evaluation.table]
    for run in runs:
        if run.evaluation is None and several:
            text = f"{run.name} is not evaluated yet: "
            out.append(missing(text, words.evaluate(run), "."))
        elif run.evaluation is None:
            out.append(missing("No results before the evaluation."))
        else:
            out.append(_result(run, several=several))
    if measured:
        cards = [
            results.by_labels(runs, kind=kind, colours=colours)
            for kind in ("probe", "knn")
        ]
        out.append(tag("div.grid.wide", cards))
    return escape(out)


def _result(run: Record, *, several: bool) -> Markup:
    evaluation = run.evaluation
    assert evaluation is not None
    out = []
    done, _ = training.steps(run)
    if done > evaluation.step and not run.features:
        text = (
            f"{run.name}: evaluated at step {evaluation.step:,}, trained to {done:,}; "
        )
        out.append(missing(text, words.evaluate(run), " brings it up to date."))
    if evaluation.table:
        out.append(results.table(run, several=several))
    else:
        who = f"{run.name}: no" if several else "No"
        text = f"{who} probe or k-NN rows: {evaluation.reason or 'none were measured'}."
        text = " ".join([text, *(f"Note: {note}." for note in evaluation.notes)])
        out += [tag("p.note", text), results.geometry([run])]
        out += [headline.verdict(evaluation)] if several else []
    name = f"{run.name}: " if several else ""
    out += [tag("p", f"{name}{line}.") for line in evaluation.said]
    return escape(out)


def _representation(runs: Sequence[Record]) -> Markup:
    several = len(runs) > 1
    maps = [pictures.embedding_map(run, several=several) for run in runs]
    near = [pictures.neighbours(run, several=several) for run in runs]
    made = [pictures.reconstructions(run, several=several) for run in runs]
    # Without labels it stands in the place of the table, else the analysis has more.
    short = [
        run
        for run in runs
        if run.evaluation
        and run.evaluation.table
        and "geometry" not in (run.evaluation.sections or {})
    ]
    geometry = results.geometry(short)
    # Of one run the small cards go under the map, beside the tall one.
    cards = [tag("div.stack", maps, made, geometry), *near]
    if several:
        cards = [*maps, *near, *made, geometry]
    absent = [words.evaluate(run) for run in runs if run.figures is None]
    note = None
    if absent:
        note = missing(
            "The map and the neighbours come with the evaluation: ",
            [[command, " "] for command in absent],
        )
    return escape([note, tag("div.grid.wide", cards)])
