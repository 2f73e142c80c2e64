"""Pictures of a run: the views it trains on, nearest neighbours, the map."""

import base64
import io
import struct
from collections.abc import Sequence

import numpy as np

from rl_jax.report import charts
from rl_jax.report.markup import Markup, card, missing, tag
from rl_jax.report.read import Figures, Record

_LARGEST = 96  # pixels of a side of a neighbour; the page stays small
_ROWS, _COLUMNS = 8, 8
_MOST_NAMES, _MOST_POINTS = 40, 4000


def views(run: Record, *, several: bool) -> Markup:
    """The grid of views of the first batch."""
    title = f"Views · {run.name}" if several else "Views of the first batch"
    if run.views is None:
        text = "No views.png in the run's folder, or it is not a PNG of at most 20 MB."
        return card(title, missing(text))
    note = (
        "Each row: the clean image that evaluation sees, then the views the first step "
        "trains on. Two views should still be recognisably the same thing."
    )
    # A PNG starts with its size, which spares the page a jump while it loads.
    width, height = struct.unpack(">II", run.views[16:24].ljust(8, b"\0"))
    picture = tag(
        "img.views",
        src=_data_uri(run.views),
        alt="grid of clean images and their augmented views",
        width=min(width, 1200),
        height=round(height * min(1, 1200 / max(width, 1))),
    )
    return card(title, tag("div.aside", picture, tag("p.note", note)))


def neighbours(run: Record, *, several: bool) -> Markup | None:
    """Rows of test images, each with those nearest to it in the representation."""
    figures, title = run.figures, "Nearest neighbours"
    if figures is None or not len(figures.query_images):
        return None
    near = figures.neighbour_labels[:_ROWS, :_COLUMNS]
    query = figures.query_labels[:_ROWS]
    names = run.evaluation.classes if run.evaluation else []
    known = (near >= 0) & (query[:, None] >= 0)
    rows = []
    for i, label in enumerate(query):
        caption = _name(names, label) if known.any() else ""
        shown = [_picture(figures.query_images[i], caption, "", "query")]
        for k, other in enumerate(near[i]):
            kind, sign = "", ""
            if label >= 0 and other >= 0:
                kind, sign = ("good", "✓ ") if other == label else ("bad", "✗ ")
            what = f"neighbour {k + 1}"
            picture = figures.neighbour_images[i, k]
            caption = sign + _name(names, other) if known.any() else ""
            shown.append(_picture(picture, caption, kind, what))
        rows.append(tag("div.near", shown))
    note = "Left: a test image. Then the images nearest to it by the cosine of h."
    if known.any():
        right = int((known & (near == query[:, None])).sum())
        note += (
            f" {right} of {int(known.sum())} are of its class (✓, solid frame); the "
            "others have ✗ and a dashed frame."
        )
    title = f"{title} · {run.name}" if several else title
    return card(title, tag("p.note", note), tag("div.scroll", rows))


def reconstructions(run: Record, *, several: bool) -> Markup | None:
    """Test images above what the method makes of them."""
    figures = run.figures
    if figures is None or not len(figures.remade):
        return None
    rows = [("image", figures.originals), ("made again", figures.remade)]
    note = "Test images, and below what the decoder makes of them."
    if len(figures.seen):
        rows.insert(1, ("seen", figures.seen))
        note = (
            "Test images, what is shown to the encoder, and what is filled in; what "
            "was shown is copied. Blurred is right: the mean of what could be there."
        )
    drawn = [
        tag("div.near.made", [_picture(image, "", "", what) for image in images])
        for what, images in rows
    ]
    title = f"Reconstructions · {run.name}" if several else "Reconstructions"
    return card(title, tag("p.note", note), tag("div.scroll", drawn))


def embedding_map(run: Record, *, several: bool) -> Markup | None:
    """The 2-D embedding of the test images, by class where there are labels."""
    figures = run.figures
    if figures is None or not len(figures.map):
        return None
    names = run.evaluation.classes if run.evaluation else []
    groups, styles = _groups(figures, names)
    named = 1 < len(groups) <= _MOST_NAMES
    classes = len(np.unique(figures.map_labels[figures.map_labels >= 0]))
    told = f"{classes} class{'' if classes == 1 else 'es'}" if classes else "no labels"
    figure = charts.scatter(
        groups,
        label=f"map of {len(figures.map)} test images, {told}",
        styles=styles,
        named=named,
    )
    note = f"2-D embedding (t-SNE) of h of {len(figures.map):,} test images. "
    note += "Nearness within a group means something; axes and gaps do not."
    if classes > 1 and not named:
        note += f" Its {classes} classes are too many to tell apart by colour."
    legend = None
    if named:
        items = [
            tag("li", charts.swatch(*style), name)
            for (name, _), style in zip(groups, styles, strict=True)
        ]
        legend = tag("ul.legend", items)
    title = f"Map · {run.name}" if several else "Map of the representation"
    return card(title, figure, legend, tag("p.note", note))


def _groups(figures: Figures, names: Sequence[str]):
    """Points by class, and a colour and shape for each class."""
    chosen = slice(None, None, -(-len(figures.map) // _MOST_POINTS))
    points, labels = figures.map[chosen], figures.map_labels[chosen]
    present = np.unique(labels)
    groups, styles = [], []
    if len(present) == 1 and present[0] < 0 or len(present) > _MOST_NAMES:
        return [("test images", points.tolist())], [("c0", 0)]
    for label in present:
        groups.append((_name(names, label), points[labels == label].tolist()))
        colour, shape = f"c{label % charts.COLOURS}", int(label) // charts.COLOURS
        unknown = label < 0
        styles.append(("base", 4) if unknown else (colour, shape % len(charts.SHAPES)))
    return groups, styles


def _name(names: Sequence[str], label: int) -> str:
    if label < 0:
        return "unlabelled"
    return names[label] if label < len(names) else str(label)


def _picture(image: np.ndarray, caption: str, kind: str, what: str) -> Markup:
    smooth = "smooth" if min(image.shape[:2]) > 64 else None
    picture = tag("img", src=_data_uri(_png(image)), alt=what, class_=smooth)
    text = tag("figcaption", caption, title=caption) if caption else None
    return tag("figure", picture, text, class_=kind or None)


def _png(image: np.ndarray) -> bytes:
    """A PNG of a uint8 image [H, W, C]; of other than 1 or 3 channels, the first."""
    from PIL import Image

    channels = 3 if image.shape[2] >= 3 else 1
    pixels = np.ascontiguousarray(image[..., :channels])
    picture = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    if max(picture.size) > _LARGEST:
        picture.thumbnail((_LARGEST, _LARGEST))
    out = io.BytesIO()
    picture.save(out, format="png", optimize=True)
    return out.getvalue()


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"
