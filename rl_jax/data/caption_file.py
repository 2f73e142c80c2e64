"""The captions of the images in a directory, from its captions.csv or .jsonl."""

import csv
import io
import json
import os
import unicodedata
from collections.abc import Iterator

from rl_jax.data.folder import SUFFIXES, listed
from rl_jax.errors import UsageError
from rl_jax.files import printable

FILES = ("captions.csv", "captions.jsonl")
IMAGE_COLUMNS = ("image", "file", "filepath")
TEXT_COLUMNS = ("caption", "title", "text")


def captions_of(
    root: str, limit_bytes: int, column: str | None = None
) -> dict[str, list[str]]:
    """The captions of each image that has some, in the order of `folder`.

    Args:
      root: the directory.
      limit_bytes: the most that the file may hold.
      column: of the captions; None: the first there is of `TEXT_COLUMNS`.

    Raises:
      UsageError: there is no such file or there are both, it cannot be read, or names
        what is not there.
    """
    names = [name for name in FILES if os.path.lexists(os.path.join(root, name))]
    if len(names) != 1:
        problem = "both" if names else "neither"
        raise UsageError(
            f"captioned: expected one of {' and '.join(FILES)} in {root!r}, "
            f"found {problem}"
        )
    shown = f"captioned: {os.path.join(root, names[0])!r}"
    images = listed(root, SUFFIXES, "captioned", "images")
    found: dict[str, list[str]] = {name: [] for name in images}
    composed = {unicodedata.normalize("NFC", name): name for name in images}
    missing: list[tuple[int, str]] = []
    lines = 0
    content = _content(os.path.join(root, names[0]), shown, limit_bytes)
    read = _csv_lines if names[0].endswith(".csv") else _json_lines
    for lines, (at, image, caption) in enumerate(  # noqa: B007
        read(content, shown, (column,) if column else TEXT_COLUMNS), 1
    ):
        if not caption.strip():
            raise UsageError(f"{shown}, line {at}: the caption is empty")
        name = _inside(image, f"{shown}, line {at}")
        # The same name may be written in two ways, as é or as e and an accent.
        if name not in found:
            name = composed.get(unicodedata.normalize("NFC", name), name)
        if name in found:
            found[name].append(caption)
        else:
            missing.append((at, image))
    if not lines:
        raise UsageError(f"{shown} holds no captions")
    if missing:
        at, image = missing[0]
        raise UsageError(
            f"{shown}, line {at}: no image {image[:200]!r} in the directory"
            + (f", nor those of {len(missing) - 1} more lines" if missing[1:] else "")
        )
    return {name: captions for name, captions in found.items() if captions}


def _inside(image: str, where: str) -> str:
    """A path below the directory, as `listed` has it."""
    inner = image.replace("/", os.sep)
    if not image or os.path.isabs(inner) or os.pardir in inner.split(os.sep):
        raise UsageError(
            f"{where}: an image must be a path below the directory, got {image[:200]!r}"
        )
    return os.path.normpath(inner)


def _content(file: str, shown: str, limit_bytes: int) -> str:
    if not os.path.isfile(file):
        raise UsageError(f"{shown} is not a file")
    try:
        with open(file, "rb") as opened:
            large = os.fstat(opened.fileno()).st_size > limit_bytes
            data = b"" if large else opened.read(limit_bytes + 1)
    except OSError as error:
        raise UsageError(f"{shown} cannot be read: {error.strerror}") from None
    if large or len(data) > limit_bytes:
        raise UsageError(f"{shown} is larger than limit_bytes, {limit_bytes:,}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        where = f"{error.reason} at byte {error.start}"
        raise UsageError(f"{shown} is not UTF-8: {where}") from None


def _csv_lines(
    content: str, shown: str, texts: tuple[str, ...]
) -> Iterator[tuple[int, str, str]]:
    rows = csv.reader(io.StringIO(content, newline=""), strict=True)
    try:
        header = [name.strip().lower() for name in next(rows, [])]
        image = _column(header, IMAGE_COLUMNS, f"{shown}, line 1")
        caption = _column(header, tuple(map(str.lower, texts)), f"{shown}, line 1")
        for row in rows:
            if not row:
                continue
            if len(row) != len(header):
                raise UsageError(
                    f"{shown}, line {rows.line_num}: {len(row)} columns, the header "
                    f"has {len(header)}; put captions with commas in quotes"
                )
            yield rows.line_num, row[image], row[caption]
    except csv.Error as error:
        raise UsageError(f"{shown}, line {rows.line_num}: {error}") from None


def _json_lines(
    content: str, shown: str, texts: tuple[str, ...]
) -> Iterator[tuple[int, str, str]]:
    for at, line in enumerate(content.split("\n"), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UsageError(f"{shown}, line {at} is not JSON: {reason}") from None
        if not isinstance(entry, dict):
            raise UsageError(
                f"{shown}, line {at}: expected an object, got {line[:80]!r}"
            )
        keys = list(entry)
        image = keys[_column(keys, IMAGE_COLUMNS, f"{shown}, line {at}")]
        caption = keys[_column(keys, texts, f"{shown}, line {at}")]
        for key in (image, caption):
            if not isinstance(entry[key], str):
                raise UsageError(
                    f"{shown}, line {at}: {key} must be a string, got "
                    f"{type(entry[key]).__name__}"
                )
        yield at, entry[image], entry[caption]


def _column(header: list[str], names: tuple[str, ...], where: str) -> int:
    for name in names:
        if name in header:
            return header.index(name)
    found = printable(", ".join(header[:20]))[:300] or "none"
    known = f"{', '.join(names[:-1])} or {names[-1]}" if names[1:] else names[0]
    raise UsageError(f"{where}: expected a column {known}, found {found}")
