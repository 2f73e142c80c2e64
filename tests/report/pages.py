"""What holds of every page and of every figure."""

import html
import html.parser
import re

import numpy as np

from rl_jax import report

VOID = {"img", "meta", "br", "hr"}


class Balance(html.parser.HTMLParser):
    """Fails where a tag is closed that is not the open one."""

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.ids, self.links = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), (tag, names)
        attributes = dict(attrs)
        self.ids += [attributes["id"]] if "id" in attributes else []
        if tag == "a":
            self.links.append(attributes["href"])
        if tag == "img":
            assert attributes["src"].startswith("data:image/png;base64,")
            assert attributes["alt"]
        if tag == "svg":
            assert "aria-label" in attributes or "aria-hidden" in attributes
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def page(*folders) -> str:
    """The page of the runs, checked for what holds of every page."""
    output = folders[0].parent / "page.html"
    assert report.write(folders, output) == output
    text = output.read_text()
    parser = Balance()
    parser.feed(text)
    parser.close()
    assert not parser.open
    assert len(parser.ids) == len(set(parser.ids))
    assert {link[1:] for link in parser.links} == set(parser.ids)
    assert not {"script", "iframe", "link", "object"} & set(parser.seen)
    assert not re.search(r"""(src|href)=["']?\s*(https?:)?//""", text)
    assert not re.search(r"url\(|@import", text)
    assert not re.search(r">(nan|inf|None)\b", text)
    assert "default-src &#x27;none&#x27;" in text
    return text


def plain(text: str) -> str:
    """What a reader sees: tags out, blanks together."""
    text = re.sub(r"<style>.*?</style>", "", text, flags=re.S)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", text)))


def drawn(svg: str) -> tuple[np.ndarray, tuple[float, float]]:
    """Coordinates of circles, texts and absolute path points; size of the figure."""
    width, height = map(float, re.search(r"0 0 ([\d.]+) ([\d.]+)", svg).groups())
    found = [(x, y) for x, y in re.findall(r' c?x="([-\d.]+)" c?y="([-\d.]+)"', svg)]
    for path in re.findall(r' d="([^"]*)"', svg):
        found += re.findall(r"[ML]([-\d.]+) ([-\d.]+)", path)
    return np.array(found, float), (width, height)


def assert_inside(svg: str) -> None:
    at, (width, height) = drawn(svg)
    assert len(at)
    assert (at >= 0).all()
    assert (at <= [width, height]).all()
