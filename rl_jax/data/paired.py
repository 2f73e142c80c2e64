"""Images and captions as one source: tokens are learned from the training part."""

import functools
import hashlib
import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from rl_jax.data import tokens
from rl_jax.data.packed import Taken
from rl_jax.data.source import Source
from rl_jax.data.split import nothing_held_out, stratified
from rl_jax.errors import UsageError
from rl_jax.files import printable

TEMPLATES = ("a photo of a {}", "an image of a {}", "{}")
_log = logging.getLogger("rl_jax.data")
_MAX_TOKENS = 1 << 28
_AT_ONCE = 1 << 16


class Pairs(NamedTuple):
    """The images of one part that have captions.

    Attributes:
      images: `(rows) -> Source` of those images, int [k], with nothing held out.
      labels: [n] int32, -1 where unknown; or None.
      counts: [n], how many captions each image has, >= 1.
      texts: the captions of the first image, then those of the second, and so on.
    """

    images: Callable[[np.ndarray], Source]
    labels: np.ndarray | None
    counts: np.ndarray
    texts: Sequence[str]


class Found(NamedTuple):
    """What there is of captions.

    Attributes:
      name: of the source.
      parts: one, of which a share is held out, or the training part and the other.
      spoken: the names of all classes, to be said in prompts; or none.
    """

    name: str
    parts: list[Pairs]
    spoken: Sequence[str]


class Reading(NamedTuple):
    """How captions become tokens: arguments of `captioned`."""

    vocab_size: int
    length: int
    lowercase: bool
    vocabulary: tuple[str, ...] | None


def paired(found: Found, reading: Reading, *, held_out: float) -> Source:
    """A source of images with the field `tokens`, as `captioned` describes it.

    Args:
      found: images and their captions.
      reading: how captions become tokens.
      held_out: the share of a single part, in [0, 1).
    """
    parts = found.parts
    rows = [np.arange(len(part.counts)) for part in parts]
    if len(parts) == 1 and held_out:
        held = _held(parts[0], held_out)
        parts, rows = [*parts, *parts], [np.flatnonzero(~held), np.flatnonzero(held)]
    texts = [_texts(part, at) for part, at in zip(parts, rows, strict=True)]
    if reading.vocabulary is None:
        tokenizer = tokens.train_pieces(
            texts[0], vocab_size=reading.vocab_size, lowercase=reading.lowercase
        )
    else:
        tokenizer = tokens.pieces(reading.vocabulary, lowercase=reading.lowercase)

    prompts = (
        _prompts(tokenizer, found.spoken, reading.length) if found.spoken else None
    )
    most = max(int(part.counts.max()) for part in parts)
    source = None
    for part, at, said in reversed(list(zip(parts, rows, texts, strict=True))):
        if not len(at):
            continue
        encoded = _encoded(tokenizer, said, part.counts[at], most, reading.length)
        images = part.images(at)
        source = images._replace(
            held_out=source,
            fields={"tokens": encoded},
            vocabulary=tokenizer.vocabulary,
            prompts=prompts,
            digest=functools.partial(_digest, images.digest, encoded),
        )
    assert source is not None
    if held_out and source.held_out is None:
        nothing_held_out("captioned", printable(found.name), held_out)
    return source._replace(name=found.name)


def _held(part: Pairs, share: float) -> np.ndarray:
    """[n] bool: those of each class that are kept for testing."""
    size = len(part.counts)
    strata = np.zeros(size, np.int32) if part.labels is None else part.labels + 1
    return stratified(strata, min(round(share * size), size - 1))


def _texts(part: Pairs, rows: np.ndarray) -> Sequence[str]:
    """The captions of some images."""
    if len(rows) == len(part.counts):
        return part.texts
    counts = part.counts[rows]
    first = (np.cumsum(part.counts) - part.counts)[rows]
    place = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return Taken(part.texts, np.repeat(first, counts) + place)


def _prompts(tokenizer: tokens.Tokenizer, classes: Sequence[str], length: int):
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


def _encoded(
    tokenizer: tokens.Tokenizer,
    texts: Sequence[str],
    counts: np.ndarray,
    most: int,
    length: int,
) -> np.ndarray:
    """[n, most, length], or [n, length] where each image has one caption."""
    needed = len(counts) * most * length
    if needed > _MAX_TOKENS:
        raise UsageError(
            f"captioned: {len(counts):,} images with up to {most:,} captions of "
            f"{length} tokens are {needed:,} tokens, the limit is {_MAX_TOKENS:,}; use "
            "a shorter length or fewer captions an image"
        )
    rows = np.empty((len(texts), length), np.int32)
    for start in range(0, len(texts), _AT_ONCE):
        part = [texts[i] for i in range(start, min(start + _AT_ONCE, len(texts)))]
        rows[start : start + len(part)] = tokens.padded(tokenizer.encode(part), length)
    counts = counts[:, None]
    place = np.arange(most) % counts + np.cumsum(counts)[:, None] - counts
    encoded = rows[place] if most > 1 else rows
    encoded.flags.writeable = False
    return encoded


def with_captions(said: np.ndarray, root: str) -> np.ndarray:
    """The rows that have a caption; tells how many have none.

    Args:
      said: [n] bool.
      root: where they lie, for the error.

    Raises:
      UsageError: none has.
    """
    if not said.any():
        raise UsageError(
            f"captioned: none of the {len(said):,} images in {root!r} has a caption: "
            "expected a text in NAME.txt beside NAME.jpg in a tar, `caption` in "
            "NAME.json, or a text in the column of captions"
        )
    if not said.all():
        _log.warning(
            "captioned: left out %s of %s images without a caption",
            *(f"{np.sum(~said):,}", f"{len(said):,}"),
        )
    return np.flatnonzero(said)
