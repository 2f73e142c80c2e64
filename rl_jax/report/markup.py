"""HTML in which text is escaped unless it says that it is markup."""

import html
import math
import pathlib
import shlex
from collections.abc import Iterable
from typing import Any

from rl_jax import own

_VOID = frozenset({"img", "meta", "br", "hr"})
# Control characters, which HTML forbids, and lone surrogates, which UTF-8 does.
_FORBIDDEN = {c: "\ufffd" for c in (*range(9), 11, 12, *range(14, 32), 127)}
_FORBIDDEN |= {c: "\ufffd" for c in range(0xD800, 0xE000)}


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def escape(content: Any) -> Markup:
    """Content as HTML: markup as it is, None as nothing, items joined, text escaped."""
    if isinstance(content, Markup):
        return content
    if content is None:
        return Markup("")
    if isinstance(content, Iterable) and not isinstance(content, str):
        return Markup("".join(map(escape, content)))
    return Markup(html.escape(str(content).translate(_FORBIDDEN)))


def tag(name: str, /, *children: Any, **attributes: Any) -> Markup:
    """An element.

    Args:
      name: of the element; may carry classes, `"p.note"`.
      children: text (escaped), markup, None, or iterables of these.
      attributes: None leaves one out; underscores become hyphens (`class_` loses its
        own); numbers are written with at most two decimals.

    Returns:
      The element as markup.
    """
    name, *classes = name.split(".")
    if classes:
        attributes = {"class": " ".join(classes), **attributes}
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_value(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{escape(children)}</{name}>")


def number(value: float | None, digits: int = 3) -> str:
    """A number for people: `digits` significant digits, thousands apart; – for none."""
    if value is None or not math.isfinite(value):
        return "–"
    size = abs(value)
    if value and not 1e-4 <= size < 1e7:
        text = f"{value:.{digits - 1}e}"
    else:
        decimals = digits - 1 - math.floor(math.log10(size)) if value else 0
        text = f"{value:,.{max(0, decimals)}f}"
        if isinstance(value, int):
            text = f"{value:,}"
    return text.replace("-", "−")


def percent(value: float | None, *, digits: int = 1) -> str:
    """A share as a percentage without its sign: 0.8431 -> 84.3."""
    return "–" if value is None else f"{100 * value:.{digits}f}".replace("-", "−")


def _value(value: Any) -> Any:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else value


def card(
    title: Any, *children: Any, aside: Any = None, level: int = 3, kind: str = ""
) -> Markup:
    """A box with a title of a level, and what stands at the right of it."""
    head = tag("div.head", tag(f"h{level}", title), aside)
    return tag(f"section.card{kind}", head, children)


def missing(*sentence: Any) -> Markup:
    """A sentence in place of what is not there yet."""
    return tag("p.todo", sentence)


def command(name: str, *words: Any) -> Markup:
    """A command of the package, as it can be typed; on a run, with its own code."""
    if len(words) == 1 and isinstance(words[0], pathlib.Path):
        return tag("code", own.again(name, words[0]))
    return tag("code", shlex.join(["rl-jax", name, *map(str, words)]))
