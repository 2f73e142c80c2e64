"""Which columns of a dataset are images, labels and captions, by type and name."""

import importlib
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from rl_jax.data.tables.opened import Table
from rl_jax.errors import UsageError
from rl_jax.files import printable

IMAGES = ("image", "img", "jpg", "jpeg", "png", "webp")
LABELS = ("label", "labels")
CAPTIONS = ("caption", "captions", "title", "text", "texts", "txt", "sentences")
_log = logging.getLogger("rl_jax.data")


def image_column(table: Table, wanted: str | None, factory: str) -> str:
    """The column of images: the one asked for, else by its type, then its name.

    Raises:
      UsageError: there is none, or several and none of a usual name.
    """
    kinds = {name: _kind(table, name) for name in table.rows.column_names}
    images = [name for name, kind in kinds.items() if kind == "image"]
    usual = [name for name in IMAGES if kinds.get(name) in ("image", "bytes")]
    if wanted is not None:
        if kinds.get(wanted) not in ("image", "bytes"):
            raise _not_there("image_column", wanted, images, table, factory)
        return wanted
    if len(images) == 1:
        return images[0]
    if usual:
        return usual[0]
    if images:
        raise UsageError(
            f"{factory}: several columns of images, {_listed(images)}; name one as "
            "image_column"
        )
    raise UsageError(f"{factory}: no column of images, there are {_columns(table)}")


def label_column(table: Table, wanted: str | None, factory: str) -> str | None:
    """The column of classes: the one asked for, else by name and type; None if none.

    Raises:
      UsageError: the one asked for holds no classes.
    """
    kinds = {name: _kind(table, name) for name in table.rows.column_names}
    classes = [name for name, kind in kinds.items() if kind == "class"]
    if wanted is not None:
        if kinds.get(wanted) not in ("class", "integer"):
            raise _not_there("label_column", wanted, classes, table, factory)
        return wanted
    usual = [name for name in LABELS if kinds.get(name) in ("class", "integer")]
    if usual or len(classes) == 1:
        return (usual or classes)[0]
    if classes:
        _log.warning(
            "%s: no labels are read: several columns are of classes, %s; name one as "
            "label_column",
            factory,
            _listed(classes),
        )
    return None


def caption_column(table: Table, wanted: str | None, factory: str) -> str:
    """The column of captions, a text or a list of texts: asked for, or by its name.

    Raises:
      UsageError: there is none.
    """
    kinds = {name: _kind(table, name) for name in table.rows.column_names}
    texts = [name for name, kind in kinds.items() if kind == "text"]
    if wanted is not None:
        if wanted not in texts:
            raise _not_there("caption_column", wanted, texts, table, factory)
        return wanted
    usual = [name for name in CAPTIONS if name in texts]
    if not usual:
        also = f"; name one of {_listed(texts)} as caption_column" if texts else ""
        raise UsageError(
            f"{factory}: no column of captions ({', '.join(CAPTIONS)}), there are "
            f"{_columns(table)}{also}"
        )
    return usual[0]


def _kind(table: Table, name: str) -> str:
    """`image`, `bytes` of perhaps one, `class`, `integer`, `text` or another thing."""
    library, arrow = map(importlib.import_module, ("datasets", "pyarrow"))
    feature, kind = table.rows.features[name], table.rows.data.schema.field(name).type
    is_a = arrow.types
    if isinstance(feature, library.ClassLabel):
        return "class"
    # As the library stores images, though a file of others may not say that they are.
    if isinstance(feature, library.Image) or (
        is_a.is_struct(kind) and {field.name for field in kind} == {"bytes", "path"}
    ):
        return "image"
    if is_a.is_list(kind) or is_a.is_large_list(kind):
        return "text" if _is_text(kind.value_type, is_a) else "other"
    if is_a.is_binary(kind) or is_a.is_large_binary(kind):
        return "bytes"
    if is_a.is_integer(kind):
        return "integer"
    return "text" if _is_text(kind, is_a) else "other"


def _is_text(kind: Any, is_a: Any) -> bool:
    return is_a.is_string(kind) or is_a.is_large_string(kind)


def _not_there(
    argument: str, wanted: str, found: Sequence[str], table: Table, factory: str
) -> UsageError:
    there = _listed(found) if found else f"no such column, but {_columns(table)}"
    return UsageError(
        f"{factory}: {argument}={wanted!r} is no column of that kind; there are {there}"
    )


def _columns(table: Table) -> str:
    return _listed(
        [f"{name} ({_kind(table, name)})" for name in table.rows.column_names]
    )


def _listed(names: Sequence[str]) -> str:
    shown = printable(", ".join(names[:20]))
    return f"{shown}, ..." if len(names) > 20 else shown


def labels_in(table: Table, name: str) -> np.ndarray:
    """[n] integers, -1 where there is none."""
    return _column(table, name).cast("int64").fill_null(-1).to_numpy()


def captions_in(table: Table, name: str) -> tuple[np.ndarray, Sequence[str]]:
    """How many captions each row has [n], and all of them; empty ones are none."""
    compute = importlib.import_module("pyarrow.compute")
    is_a = importlib.import_module("pyarrow").types
    found = _column(table, name)
    row = np.arange(len(found))
    if not _is_text(found.type, is_a):
        row = np.repeat(row, compute.list_value_length(found).fill_null(0).to_numpy())
        found = compute.list_flatten(found)
    said = compute.utf8_length(compute.utf8_trim_whitespace(found)).fill_null(0)
    there = said.to_numpy() > 0
    counts = np.bincount(row[there], minlength=len(table.rows))
    return counts, _Texts(found.filter(there))


class _Texts(Sequence[str]):
    """A column of texts, of which none is a string of Python until it is read."""

    def __init__(self, column: Any):
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, at) -> str:
        return self._column[int(at)].as_py()


def _column(table: Table, name: str) -> Any:
    """An Arrow array in chunks, in the order of the rows."""
    return table.rows.with_format("arrow").select_columns([name])[:].column(name)
