"""How a run was made: every argument, the environment, the command."""

import json
from collections.abc import Sequence
from typing import Any

from rl_jax.report import pictures
from rl_jax.report.markup import Markup, card, escape, missing, tag
from rl_jax.report.read import Record

_LONGEST = 2000


def section(runs: Sequence[Record]) -> Markup:
    """Commands, views, arguments and environments; what differs comes first."""
    several = len(runs) > 1
    arrays = [_arrays(run, several=several) for run in runs if run.features]
    runs = [run for run in runs if not run.features]
    if not runs:
        return escape(tag("div.stack", arrays))
    views = [pictures.views(run, several=several) for run in runs]
    settings = card("Configuration", _table([flatten(r.recipe) for r in runs], runs))
    places = card("Environment", _table([flatten(r.environment) for r in runs], runs))
    if several:
        cards = [tag("div.grid.wide", views), tag("div.stack", settings, places)]
    else:
        cards = [tag("div.grid.wide", tag("div.stack", views, places), settings)]
    problems = [_problems(run, several=several) for run in runs]
    commands = card("Command", [_command(run, several=several) for run in runs])
    stack = tag("div.stack", arrays) if arrays else None
    return escape([problems, commands, cards, stack])


def _arrays(run: Record, *, several: bool) -> Markup:
    """The file of features and what was in it."""
    assert run.features is not None
    rows = [_row("file", [run.features.file])]
    rows += [_row(name, [shape]) for name, shape in run.features.arrays.items()]
    title = f"Features · {run.name}" if several else "Features"
    return card(title, tag("div.scroll", tag("table.settings", tag("tbody", rows))))


def flatten(content: dict[str, Any]) -> dict[tuple[str, str], str]:
    """A recipe as `{(part, argument): value}`; the factory is the argument "".

    Values are written as JSON, strings without quotes.
    """
    out = {}
    for part, value in content.items():
        if isinstance(value, dict) and isinstance(value.get("arguments"), dict):
            out[part, ""] = show(value.get("factory"))
            for name, argument in value["arguments"].items():
                out[part, name] = show(argument)
        else:
            out["", part] = show(value)
    return out


def show(value: Any) -> str:
    """A value of JSON as text of at most 2,000 characters."""
    try:
        text = (
            value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        )
    except RecursionError:
        text = "nested too deeply to show"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _table(settings: Sequence[dict], runs: Sequence[Record]) -> Markup:
    keys = list(dict.fromkeys(key for each in settings for key in each))
    # A part's arguments follow its name; the plain settings come last.
    keys.sort(key=lambda key: key[0] == "")
    several = len(runs) > 1
    rows: list[Markup] = []
    if several:
        differing = [k for k in keys if len({each.get(k) for each in settings}) > 1]
        text = "differs" if differing else "no difference between the runs"
        rows.append(_part(text, len(runs)))
        for key in differing:
            name = " ".join(filter(None, key))
            rows.append(_row(name, [each.get(key) for each in settings]))
        rows.append(_part("the same", len(runs)) if differing else Markup(""))
        keys = [key for key in keys if key not in differing]
        rows += [_row(" ".join(filter(None, k)), [settings[0][k]]) for k in keys]
    else:
        for part, name in keys:
            value = settings[0][part, name]
            if part and not name:
                rows.append(_row(part, [value], kind="tr.chosen"))
            else:
                rows.append(_row(name, [value]))
    heads = None
    if several:
        names = [tag("th", run.name, scope="col") for run in runs]
        heads = tag("thead", tag("tr", tag("th", ""), names))
    body = tag("table.settings", heads, tag("tbody", rows))
    return tag("div.scroll", body)


def _row(name: Any, values: Sequence[str | None], *, kind: str = "tr") -> Markup:
    cells = [tag("td", tag("code", "–" if v is None else v)) for v in values]
    return tag(kind, tag("th", name, scope="row"), cells)


def _part(text: str, runs: int) -> Markup:
    return tag("tr.part", tag("th", text, colspan=runs + 1))


def _command(run: Record, *, several: bool) -> Markup:
    name = tag("p.note", run.name) if several else None
    return escape([name, tag("pre", tag("code", run.command or "not recorded"))])


def _problems(run: Record, *, several: bool) -> Markup | None:
    """The files that could not be decoded, where the run noted them."""
    bad = run.problems.get("bad")
    if not isinstance(bad, int) or not bad:
        return None
    names = run.problems.get("names")
    listed = ", ".join(map(str, names)) if isinstance(names, list) else ""
    who = f"{run.name}: " if several else ""
    text = f"{who}{bad:,} files could not be decoded and were replaced"
    return missing(f"{text}: {listed}" if listed else f"{text}.")
