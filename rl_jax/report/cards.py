"""The card of a section of the evaluation, for one run or for several side by side."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from rl_jax.report import charts, words
from rl_jax.report.markup import Markup, card, escape, tag
from rl_jax.report.read import Record
from rl_jax.report.sections import Section

SPARE = ("c3", "c4", "c5", "c6", "c7")


class Shown(NamedTuple):
    """A section of a run; `alone` where the page is about this run only."""

    run: Record
    colour: str
    section: Section
    alone: bool

    @property
    def name(self) -> str:
        """What the run is called in figures; "" where there is no other."""
        return "" if self.alone else self.run.name

    def called(self, what: str) -> str:
        """A thing of the run, by its name among things of other runs."""
        return what if self.alone else f"{self.run.name} · {what}"


def joint(title: str, shown: Sequence[Shown], *content, kind: str = "") -> Markup:
    """One card for all runs."""
    return card(title, content, notes(shown), level=4, kind=kind)


def apiece(
    title: str, shown: Sequence[Shown], draw: Callable[[Shown], object]
) -> list[Markup]:
    """A card for each run."""
    return [
        card(_title(title, each), draw(each), notes([each]), level=4) for each in shown
    ]


def bare(title: str, *content) -> Markup:
    """A card whose lines stand in another one of its section."""
    return card(title, content, level=4)


def _title(title: str, each: Shown) -> str:
    return title if each.alone else f"{title} · {each.run.name}"


def notes(shown: Sequence[Shown]) -> Markup | None:
    """The sections' own lines: of several runs folded away, with their names."""
    lines = [
        tag("p.note", None if each.alone else tag("b", f"{each.name}: "), stop(line))
        for each in shown
        for line in each.section.lines
    ]
    if not lines:
        return None
    if shown[0].alone:
        return escape(lines)
    return tag("details.words", tag("summary", "In words"), lines)


def stop(line: str) -> str:
    """A sentence with its full stop."""
    line = line.strip()
    return line if line.endswith((".", "!", "?", ":")) else f"{line}."


def legend(items: Iterable[tuple[str, str]]) -> Markup:
    """Colours and names, once each, in their order."""
    once = dict.fromkeys(items)
    return tag(
        "ul.legend", [tag("li", charts.swatch(colour), name) for colour, name in once]
    )


def colour(representation: str, place: int = 0) -> str:
    """The colour a representation has in every figure of one run."""
    return words.COLOURS.get(representation) or SPARE[place % len(SPARE)]


def table(
    heads: Sequence[object], rows: Iterable[Sequence[object]], *, top: object = None
) -> Markup:
    """Rows of a name and its values."""
    body = [
        tag("tr", tag("th", name, scope="row"), [tag("td", cell) for cell in cells])
        for name, *cells in rows
    ]
    head = tag("tr", [tag("th", text, scope="col") for text in heads])
    return tag("div.scroll", tag("table", tag("thead", top, head), tag("tbody", body)))
