"""The frame of a page: what every self-contained file of this project begins with."""

from typing import Any

from rl_jax.report.markup import Markup, tag
from rl_jax.report.style import style_sheet

# Nothing is loaded and nothing runs, whatever a file that is shown may hold.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def document(title: str, header: Any, main: Any, *, css: str = "") -> str:
    """A whole HTML page that loads nothing from elsewhere, light or dark.

    Args:
      title: of the window.
      header: children of `<header>`.
      main: children of `<main>`.
      css: rules beside those of all pages.
    """
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("title", f"{title} · rl_jax"),
        tag("style", Markup(style_sheet() + css)),
    )
    body = tag(
        "body",
        tag("header", header),
        tag("main", main),
        tag("footer", "Written by rl_jax. One file; nothing is loaded from elsewhere."),
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}"
