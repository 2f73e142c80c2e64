"""A source from a directory of images with a file of captions."""

import csv
import functools
import hashlib
import io
import json
import logging
import os
import unicodedata
from collections.abc import Iterator

import numpy as np

from rl_jax.data import tokens
from rl_jax.data.arguments import whole
from rl_jax.data.folder import (
    SUFFIXES,
    check_decoding,
    classes_of,
    directory,
    images_of,
    labels_of,
    listed,
    parts,
)
from rl_jax.data.problems import printable
from rl_jax.data.source import Source
from rl_jax.data.split import check_share, nothing_held_out, stratified
from rl_jax.errors import UsageError

FILES = ("captions.csv", "captions.jsonl")
IMAGE_COLUMNS = ("image", "file", "filepath")
TEXT_COLUMNS = ("caption", "title", "text")
TEMPLATES = ("a photo of a {}", "an image of a {}", "{}")
_log = logging.getLogger("rl_jax.data")
_MAX_TOKENS = 1 << 28


def captioned(
    path: str | os.PathLike,
    *,
    size: int = 256,
    vocab_size: int = 8192,
    length: int = 32,
    held_out: float = 0.1,
    lowercase: bool = True,
    max_bad: float = 0.01,
    limit_bytes: int = 1 << 28,
    vocabulary: tuple[str, ...] | None = None,
) -> Source:
    """A source from a directory tree of images and their captions.

    `captions.csv` (with a header) or `captions.jsonl` (an object a line) in the
    directory names an image by its path below it, in the column `image`, `file` or
    `filepath`, and a caption in `caption`, `title` or `text`. Several lines of one
    image are several captions; images with fewer than others repeat theirs. Images
    without a caption are left out. Images are decoded, and undecodable ones replaced,
    as `folder` does it; labels come from first-level sub-directories, too.

    Held out are, where the directory has no captions itself, `val` (else `test`)
    beside `train`, each with its own captions; else a fixed share of the images. The
    tokens are learned from the training captions alone (see `train_pieces`, which
    needs the package `tokenizers`).

    Args:
      path: the directory.
      size: side of the images in pixels, >= 1.
      vocab_size: the most tokens there may be, in [259, 2^20].
      length: tokens of a caption, in [1, 2^13]; longer ones are cut.
      held_out: the share kept for testing, in [0, 1); 0: none.
      lowercase: whether to drop case.
      max_bad: the largest share of undecodable files, as in `folder`.
      limit_bytes: the most that the file of captions may hold.
      vocabulary: that of another source of captions, whose tokens a trained network
        reads; None: learned here.

    Returns:
      A source that decodes from disk, with the field `tokens`, int32 [n, T, length]
      for at most T captions of an image, or [n, length] if each has one; its
      `vocabulary`; and, where there are labels, `prompts` that name the classes; a
      warning tells of classes whose prompts are the same.

    Raises:
      UsageError: no captions, unreadable ones, one of an image that is not there or
        outside the directory, or bad arguments.
    """
    check_decoding(size, max_bad, "captioned")
    whole("captioned", limit_bytes=limit_bytes)
    check_share(held_out, "captioned")
    tokens.check_length(length)
    root = directory(path, "captioned", "it must hold images and their captions")
    has_captions = any(os.path.lexists(os.path.join(root, name)) for name in FILES)
    roots = [root] if has_captions else parts(root, "captioned")
    found = [_captions(part, limit_bytes) for part in roots]
    if len(found) == 1 and held_out:
        roots, found = roots * 2, _divided(found[0], held_out)
    names = [list(part) for part in found if part]
    texts = [[each for name in part for each in part[name]] for part in found]
    if vocabulary is None:
        tokenizer = tokens.train_pieces(
            texts[0], vocab_size=vocab_size, lowercase=lowercase
        )
    else:
        tokenizer = tokens.pieces(vocabulary, lowercase=lowercase)

    classes = classes_of(names)
    prompts = _prompts(tokenizer, classes, length) if classes else None
    most = max(len(texts) for part in found for texts in part.values())
    source = None
    for part in reversed(range(len(names))):
        encoded = _encoded(tokenizer, found[part], most, length)
        images = images_of(roots[part], names[part], classes, size, max_bad, source)
        source = images._replace(
            fields={"tokens": encoded},
            vocabulary=tokenizer.vocabulary,
            prompts=prompts,
            digest=functools.partial(_digest, images.digest, encoded),
        )
    assert source is not None
    if held_out and source.held_out is None:
        nothing_held_out("captioned", printable(os.path.basename(root)), held_out)
    return source._replace(name=os.path.basename(root))


def _prompts(tokenizer: tokens.Tokenizer, classes: list[str], length: int):
    """Texts that name the classes [C, T, length]; tells of classes named alike."""
    spoken = [name.replace("_", " ").replace("-", " ") for name in classes]
    prompts = tokens.class_prompts(tokenizer, spoken, TEMPLATES, length=length)
    _, of = np.unique(prompts.reshape(len(classes), -1), axis=0, return_inverse=True)
    for group in np.flatnonzero(np.bincount(of) > 1):
        alike = [printable(classes[c]) for c in np.flatnonzero(of == group)]
        _log.warning(
            "captioned: the classes %s%s have the same prompts: zero-shot "
            "classification will find the first alone; rename them or raise length",
            ", ".join(alike[:5]),
            f" and {len(alike) - 5} more" if len(alike) > 5 else "",
        )
    return prompts


def _digest(of_images, encoded: np.ndarray) -> str:
    digest = hashlib.blake2b(of_images().encode(), digest_size=16)
    digest.update(encoded.data)
    return digest.hexdigest()


def _divided(found: dict[str, list[str]], share: float) -> list[dict[str, list[str]]]:
    names = list(found)
    labels = labels_of(names, classes_of([names]))
    strata = np.zeros(len(names), np.int32) if labels is None else labels + 1
    count = min(round(share * len(names)), len(names) - 1)
    held = stratified(strata, count)
    return [
        {names[i]: found[names[i]] for i in np.flatnonzero(held == part)}
        for part in (False, True)
    ]


def _encoded(tokenizer, found: dict[str, list[str]], most: int, length: int):
    """[n, most, length], or [n, length] where each image has one caption."""
    needed = len(found) * most * length
    if needed > _MAX_TOKENS:
        raise UsageError(
            f"captioned: {len(found):,} images with up to {most:,} captions of "
            f"{length} tokens are {needed:,} tokens, the limit is {_MAX_TOKENS:,}; use "
            "a shorter length or fewer captions an image"
        )
    texts = [text for captions in found.values() for text in captions]
    rows = tokens.padded(tokenizer.encode(texts), length)
    counts = np.array([len(captions) for captions in found.values()])[:, None]
    place = np.arange(most) % counts + np.cumsum(counts)[:, None] - counts
    encoded = rows[place] if most > 1 else rows
    encoded.flags.writeable = False
    return encoded


def _captions(root: str, limit_bytes: int) -> dict[str, list[str]]:
    """The captions of each image that has some, in the order of `folder`."""
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
        read(content, shown), 1
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


def _csv_lines(content: str, shown: str) -> Iterator[tuple[int, str, str]]:
    rows = csv.reader(io.StringIO(content, newline=""), strict=True)
    try:
        header = [name.strip().lower() for name in next(rows, [])]
        image = _column(header, IMAGE_COLUMNS, f"{shown}, line 1")
        caption = _column(header, TEXT_COLUMNS, f"{shown}, line 1")
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


def _json_lines(content: str, shown: str) -> Iterator[tuple[int, str, str]]:
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
        caption = keys[_column(keys, TEXT_COLUMNS, f"{shown}, line {at}")]
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
    known = f"{', '.join(names[:-1])} or {names[-1]}"
    raise UsageError(f"{where}: expected a column {known}, found {found}")
