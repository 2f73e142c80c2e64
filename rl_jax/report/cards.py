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

    def head(self, what: object) -> Markup:
        """The same as the head of a column or of a row."""
        if self.alone:
            return escape(what)
        name = tag("small.line", charts.shorten(self.run.name, 18), title=self.run.name)
        return escape([what, name])


def joint(title: str, shown: Sequence[Shown], *content, kind: str = "") -> Markup:
    """One card for all runs."""
    return card(title, content, notes(shown), level=4, kind=kind)


def apiece(
    title: str,
    shown: Sequence[Shown],
    draw: Callable[[Shown], object],
    *,
    note: str = "",
    said: bool = True,
) -> list[Markup]:
    """One card with a figure for each run, beside each other.

    Args:
      title: of the card.
      shown: what to draw; none gives no card.
      draw: the figure of one.
      note: how to read them.
      said: write the sections' lines; no where another card of the section has them.
    """
    if not shown:
        return []
    lines = [tag("p.note", note) if note else None, notes(shown) if said else None]
    if shown[0].alone:
        return [card(title, draw(shown[0]), lines, level=4)]
    figures = [
        tag("div", tag("p", charts.swatch(each.colour), each.name), draw(each))
        for each in shown
    ]
    several = tag("div.thirds", figures)
    return [card(title, several, lines, level=4, kind=".across")]


def runs(shown: Sequence[Shown]) -> Markup | None:
    """The legend of the runs' colours; none where there is one."""
    if shown[0].alone:
        return None
    return legend((each.colour, each.name) for each in shown)


def notes(shown: Sequence[Shown], *, folded: bool = True) -> Markup | None:
    """The sections' own lines; of several runs with their names."""
    lines = [
        tag("p.note", None if each.alone else tag("b", f"{each.name}: "), stop(line))
        for each in shown
        for line in each.section.lines
    ]
    if not lines:
        return None
    if not folded:
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
