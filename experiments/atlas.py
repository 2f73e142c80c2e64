"""The page: every claim with its formula, its figure, and each number beside its due.

One file in the order of the text; nothing is loaded from elsewhere and nothing runs.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from experiments import record
from experiments.outcome import Check
from experiments.record import Record
from rl_jax.report.document import document
from rl_jax.report.markup import Markup, escape, tag

TITLE = "The text, computed"
HEADS = ("quantity", "found", "relation", "expected", "tolerance", "unit", "verdict")
MARKS = {"holds": "✓", "fails": "✗", "error": "✗"}
_INDEX = re.compile(
    r"_{(?P<below>[^{}]+)}"
    r"|(?P<of>(?<![A-Za-z0-9_.])[A-Za-zΑ-Ωα-ω]|[‖)\]])_"
    r"(?P<short>[A-Za-z0-9α-ω]{1,4})(?![A-Za-z0-9_])"
    r"|\^(?:{(?P<above>[^{}]+)}|(?P<power>[A-Za-zα-ω*]|\d+))"
)
CSS = """
body { max-width: 54rem; }
main > .card { margin-top: 1.25rem; padding: 1.4rem 1.5rem; scroll-margin-top: 1rem; }
main h2 { margin: 0; } main p { max-width: 46rem; }
.contents { list-style: none; margin: 1rem 0 0; padding: 0; columns: 21rem;
  column-gap: 2rem; font-size: .95rem; }
.contents li { display: grid; grid-template-columns: 1.2rem 4.6rem 1fr; gap: 0 .4rem;
  break-inside: avoid; padding: .18rem 0; }
.contents a { text-decoration-color: var(--base); }
.contents small { color: var(--muted); }
.claim { font-size: 1.08rem; font-weight: 600; margin: .5rem 0 .8rem; }
.words pre { width: fit-content; max-width: 100%; }
sub, sup { line-height: 0; font-size: .75em; }
main .scroll { position: relative; }
.words ul { margin: .35rem 0; padding-left: 1.2rem; max-width: 46rem; }
.plot { margin: 1.1rem 0 .9rem; }
.plot > div { overflow-x: auto; }
.plot svg { display: block; width: 100%; min-width: 36rem; max-width: 50rem;
  height: auto; }
.plot svg * { stroke-linejoin: round; stroke-linecap: butt; }
.plot figcaption { color: var(--muted); font-size: .875rem; margin-top: .3rem; }
.checks { width: auto; min-width: min(100%, 40rem); }
.checks th[scope=row] { white-space: normal; min-width: 11rem; font-weight: 400; }
.checks td.unit, .checks th.unit, .checks td.relation { text-align: left; }
.checks td.relation { padding-left: 0; padding-right: 0; }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden;
  clip-path: inset(50%); }
.checks th.verdict, .checks th.relation { text-align: left; }
.checks td.verdict { text-align: left; font-weight: 600; }
.correction { border-left: 4px solid var(--c4); background: var(--soft);
  border-radius: 0 8px 8px 0; padding: .55rem .9rem; margin: .8rem 0; }
.raised { border-left: 4px solid var(--bad); padding: .1rem 0 .1rem .9rem; }
.ran { color: var(--muted); font-size: .875rem; margin-top: .9rem; }
@media (max-width: 30rem) {
  main > .card { padding: 1rem .85rem; }
  .contents li { grid-template-columns: 1.1rem 4.2rem 1fr; }
  .checks { display: block; } .checks thead { display: none; }
  .checks tbody { display: block; }
  .checks tr { display: flex; flex-wrap: wrap; gap: 0 .5rem; padding: .3rem 0;
    border-bottom: 1px solid var(--rule); }
  .checks tbody th[scope=row] { flex: 1 0 100%; max-width: none; position: static; }
  .checks tr > * { border: 0; padding: .1rem 0; }
  .checks td:empty { display: none; } .checks td.verdict { margin-left: auto; }
}
@media print {
  main > .card { break-inside: auto; border: 0; padding: 0; }
  .plot, .checks tr, .correction, pre { break-inside: avoid; }
  .plot svg { min-width: 0; }
  h2, .claim { break-after: avoid; }
}
"""


def page(records: Sequence[Record], where: Mapping[str, Any]) -> str:
    """The page as text.

    Args:
      records: in the order of the text.
      where: versions and device, as `record.environment` gives them.
    """
    return document(
        TITLE,
        _header(records, where),
        [_experiment(found) for found in records],
        css=CSS,
    )


def _header(records: Sequence[Record], where: Mapping[str, Any]) -> list[Markup]:
    good = sum(found.passed for found in records)
    corrected = sum(bool(found.correction) for found in records)
    versions = where.get("versions", {})
    made = [f"{key} {versions[key]}" for key in ("rl_jax", "jax") if key in versions]
    seconds = sum(found.importing + found.seconds + found.drawing for found in records)
    facts = [*made, str(where.get("device", "")), f"{seconds:.0f} s, all added up"]
    kind = "b.good" if good == len(records) else "b.bad"
    return [
        tag("div.over", "rl_jax"),
        tag("h1", TITLE),
        tag(
            "p",
            tag(kind, f"{good} of {len(records)} hold"),
            f", {corrected} with a correction to the text." if corrected else ".",
        ),
        tag(
            "p.note",
            "Each claim is computed with the library and checked against a closed form "
            "or a reference; every number stands beside the one expected.",
        ),
        tag("p.note", " · ".join(filter(None, facts))),
        tag(
            "nav",
            tag("ol.contents", [_line(found) for found in records]),
            aria_label="Contents",
        ),
    ]


def _line(found: Record) -> Markup:
    entry = found.entry
    link = tag("a", entry.title or entry.name, href=f"#{entry.name}")
    corrected = tag("small", " corrected") if found.correction else None
    where = tag("span", entry.section)
    return tag("li", _mark(found), where, tag("span", link, corrected))


def _mark(found: Record) -> Markup:
    """The mark of a verdict, which is read as its word."""
    good = "good" if found.passed else "bad"
    return tag(
        f"b.{good}", MARKS[found.verdict], role="img", aria_label=found.verdict
    )  # fmt: skip


def _experiment(found: Record) -> Markup:
    entry, outcome = found.entry, found.outcome
    good = "good" if found.passed else "bad"
    over = [f"{entry.section} · " if entry.section else "", tag("code", entry.name)]
    pill = tag(f"span.pill.{good}", f"{MARKS[found.verdict]} {found.verdict}")
    parts = [
        tag("div.head", tag("div.over", over), pill),
        tag("h2", entry.title or entry.name),
        tag("p.claim", code(entry.claim)) if entry.claim else None,
        tag("div.words", [_block(*block) for block in blocks(entry.text)]),
        plot(found) if found.figure else None,
    ]
    if outcome is not None:
        parts += [_checks(outcome.checks), tag("p", code(outcome.said))]
    if found.correction:
        parts.append(tag("p.correction", tag("b", "Correction to the text: "),
                         code(found.correction)))  # fmt: skip
    if found.error:
        parts.append(tag("p.raised", tag("b.bad", "It raised: "), found.error))
    return tag("section.card", parts, _ran(found), id=entry.name)


def _ran(found: Record) -> Markup:
    settings = [f"{name} = {value}" for name, value in found.settings.items()]
    said = [f"{found.seconds:.1f} s", *settings]
    again = tag("code", f"rl-jax experiments {found.entry.name}")
    return tag("p.ran", " · ".join(said), tag("br"), again)


def _checks(checks: Sequence[Check]) -> Markup:
    """The table; a column in which no check has anything is left out."""
    rows = []
    for check in checks:
        value, expected, tolerance = map(_minus, record.digits(check))
        due = f"±{tolerance}" if tolerance else ""
        word = "✓ pass" if check.passed else "✗ fail"
        row = (check.quantity, value, check.relation, expected, due, check.unit, word)
        rows.append(row)
    used = [k for k in range(len(HEADS)) if any(row[k] for row in rows)]

    def cell(k: int, text: str) -> Markup:
        if HEADS[k] == "quantity":
            return tag("th", formula(text), scope="row")
        good = f".{'good' if text.startswith('✓') else 'bad'}"
        return tag(f"td.{HEADS[k]}{good if HEADS[k] == 'verdict' else ''}", text)

    heads = [tag(f"th.{HEADS[k]}", _unseen(HEADS[k]), scope="col") for k in used]
    body = [tag("tr", [cell(k, row[k]) for k in used]) for row in rows]
    table = tag("table.checks", tag("thead", tag("tr", heads)), tag("tbody", body))
    return tag("div.scroll", table, tabindex=0, role="region", aria_label="Checks")


def _unseen(head: str) -> Any:
    """The head of a column that explains itself to those who see it."""
    return tag("span.unseen", head) if head in ("relation", "verdict") else head


def _minus(number: str) -> str:
    return number.replace("-", "−")


def plot(found: Record) -> Markup:
    """The figure in the page: its ids its own, named for those who cannot see it."""
    name, caption = found.entry.name, found.entry.caption
    said = ". ".join(filter(None, (found.entry.title, caption)))
    label = escape(said.replace("`", ""))
    svg = re.sub(r"<style.*?</style>", "", found.figure, flags=re.DOTALL)
    svg = re.sub(r' xmlns(?::\w+)?="[^"]*"', "", svg)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(href="|url\()#', rf"\g<1>#{name}-", svg)
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
    return tag(
        "figure.plot",
        tag("div", Markup(svg), tabindex=0),
        tag("figcaption", code(caption)) if caption else None,
    )


def blocks(text: str) -> Iterator[tuple[str, list[str]]]:
    """The paragraphs, lists and formula blocks of a docstring, with their lines.

    What stands four columns in is a formula, and what begins with a hyphen an item.
    """
    kind, lines = "", []
    for line in [*text.split("\n"), ""]:
        now = _kind(line, kind)
        if now != kind and lines:
            yield kind, lines
            lines = []
        kind = now
        if now:
            lines.append(line)
    if lines:
        yield kind, lines


def _kind(line: str, before: str) -> str:
    if not line.strip():
        return ""
    if line.startswith("    "):
        return "pre"
    if line.startswith("- ") or (before == "ul" and line.startswith("  ")):
        return "ul"
    return "p"


def _block(kind: str, lines: list[str]) -> Markup:
    if kind == "pre":
        return tag("pre", formula("\n".join(line[4:] for line in lines)))
    if kind == "ul":
        items = "\n".join(lines).removeprefix("- ").split("\n- ")
        return tag("ul", [tag("li", code(" ".join(i.split()))) for i in items])
    return tag("p", code(" ".join(line.strip() for line in lines)))


def code(text: str) -> list[Any]:
    """Text whose `quoted` parts are code, the others formulas."""
    parts = text.split("`")
    if len(parts) % 2 == 0:  # a quote that is never closed is text
        return [formula(text)]
    return [
        tag("code", part) if k % 2 else formula(part) for k, part in enumerate(parts)
    ]


def formula(text: str) -> Markup:
    """Text in which x_i, λ_{k+1} and e^{−t} have their indices and exponents.

    A longer word before an underscore is a name, and stays as it is.
    """

    def written(found: re.Match) -> str:
        if above := found["above"] or found["power"]:
            return f"<sup>{above}</sup>"
        return f"{found['of'] or ''}<sub>{found['below'] or found['short']}</sub>"

    return Markup(_INDEX.sub(written, escape(text)))
