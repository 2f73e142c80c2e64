"""A source of examples: how many there are and a pure function from index to image."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rl_jax.data.arguments import at_least, whole
from rl_jax.data.decoders import Decoders, Threads, cores
from rl_jax.data.packed import Taken
from rl_jax.data.problems import Problems
from rl_jax.errors import UsageError


def _no_problems() -> dict[str, Any]:
    return {"seen": 0, "bad": 0, "names": ()}


def _no_digest() -> str:
    return ""


class Source(NamedTuple):
    """Examples by index: an image each, further arrays, or both; of equal shapes.

    Attributes:
      name: what logs and run records call it.
      size: number of examples n, >= 1.
      image_shape: (H, W, C); () where there are no images.
      load: `(index) -> [H, W, C]` uint8: a pure function of the index in [0, n),
        safe to call from several threads; picklable if worker processes are used.
      labels: [n] int32, -1 where unknown, or None.
      class_names: the name of each label.
      images: [n, H, W, C] uint8 when they are held in memory, else None.
      held_out: the part kept for testing, or None.
      problems: `() -> {"seen", "bad", "names"}`: how many files were read, how
        many of them could not be decoded, and the first 20 names of those.
      digest: `() -> str` that changes with the images or labels: of their bytes where
        they are held in memory, of names, sizes and labels where they are files, which
        are not read; "" where unknown.
      fields: further arrays by the name they have in a batch, a row for each example:
        `tokens` int32 [n, L], or [n, T, L] with T texts each, `sequence` float32
        [n, T, F], `u` int32 [n]. Held in memory.
      vocabulary: the token of each id, where there are `tokens`.
      prompts: int32 [C, T, L]: T texts that name each class, for zero-shot
        classification; or None.
      unseen_prompts: int32 [C, T', L]: the same by templates that no caption has; or
        None.
      chosen: what `rows` chose, in whose numbers `problems` counts; or None.
      files: the path of each example below its folder, where they are files or lie in
        some.
    """

    name: str
    size: int
    image_shape: tuple[int, int, int]
    load: Callable[[int], np.ndarray]
    labels: np.ndarray | None = None
    class_names: tuple[str, ...] = ()
    images: np.ndarray | None = None
    held_out: "Source | None" = None
    problems: Callable[[], dict[str, Any]] = _no_problems
    digest: Callable[[], str] = _no_digest
    fields: Mapping[str, np.ndarray] = {}
    vocabulary: tuple[str, ...] = ()
    prompts: np.ndarray | None = None
    unseen_prompts: np.ndarray | None = None
    chosen: "Chosen | None" = None
    files: Sequence[str] = ()


class Chosen(NamedTuple):
    """Some rows of a source: their numbers [n] in it, and all of its fields."""

    index: np.ndarray
    fields: Mapping[str, np.ndarray]


def labels_at(source: Source, index: np.ndarray) -> np.ndarray:
    """Labels of examples that have been loaded.

    Args:
      source: where they come from.
      index: [B] int32.

    Returns:
      [B] int32; -1 where unknown, and for an undecodable file, whose image is that
      of another file.
    """
    if source.labels is None:
        return np.full(len(index), -1, np.int32)
    labels = source.labels[index]
    if isinstance(source.problems, Problems):
        labels[source.problems.bad_at(_numbers(source, index))] = -1
    return labels


def examples(
    source: Source, index: np.ndarray, *, decoders: Decoders | None = None
) -> dict[str, np.ndarray]:
    """The batch of the given examples.

    Args:
      source: where they come from.
      index: [B] int32.
      decoders: threads that share the images out; None: this one makes all.

    Returns:
      `{"index": [B], "image": uint8 [B, H, W, C], "label": int32 [B], -1 where
      unknown}` and the source's fields; `image` only where there are images.
    """
    batch = {"index": index}
    if source.images is not None:
        batch["image"] = source.images[index]
    elif source.image_shape:
        batch["image"] = _images(source, index, decoders)
    # After the images: reading one may show that its label is not to be trusted.
    batch["label"] = labels_at(source, index)
    return batch | fields_at(source, index)


def fields_at(source: Source, index: np.ndarray) -> dict[str, np.ndarray]:
    """The fields of examples that have been loaded, by name.

    What belongs to an image, its caption say, must be that of the image that is shown.

    Args:
      source: where they come from.
      index: [B] int32.

    Returns:
      A row for each, of the example itself or of its stand-in.
    """
    fields = {name: rows[index] for name, rows in source.fields.items()}
    if isinstance(source.problems, Problems):
        numbers = _numbers(source, index)
        shown = source.problems.shown_at(numbers)
        moved = shown != numbers
        of_all = _of_all(source)
        for name in fields.keys() & of_all.keys():
            fields[name][moved] = of_all[name][shown[moved]]
    return fields


def _of_all(source: Source) -> Mapping[str, np.ndarray]:
    """The fields of all files, chosen or not."""
    return source.fields if source.chosen is None else source.chosen.fields


def _numbers(source: Source, index: np.ndarray) -> np.ndarray:
    """The numbers of examples by which their files are known."""
    index = np.asarray(index)
    return index if source.chosen is None else source.chosen.index[index]


def shapes(source: Source) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """Shape and dtype of one example's entries of a batch, but for `index`."""
    found = {name: (v.shape[1:], v.dtype) for name, v in source.fields.items()}
    if source.image_shape:
        found["image"] = (source.image_shape, np.dtype(np.uint8))
    return found | {"label": ((), np.dtype(np.int32))}


def contents(source: Source) -> str:
    """What there are: `images 8x8x1, tokens 6x12`, or `examples of tokens 64`."""

    def words(name, shape):
        return f"{name} {'x'.join(map(str, shape))}".rstrip()

    fields = [words(name, rows.shape[1:]) for name, rows in source.fields.items()]
    if not source.image_shape:
        return f"examples of {', '.join(fields)}"
    return ", ".join([words("images", source.image_shape), *fields])


def in_memory(source: Source) -> bool:
    """Whether every entry of a batch is held in memory."""
    return source.images is not None or not source.image_shape


def rows(source: Source, index: np.ndarray) -> Source:
    """The chosen rows of a source, as a source without a held-out part.

    For a file that cannot be decoded the next one of all files stands in, chosen or
    not; its label is -1.

    Args:
      source: any source.
      index: [n] integers in [0, source.size), n >= 1.

    Raises:
      UsageError: index is something else.
    """
    index = np.asarray(index)
    if index.ndim != 1 or not index.size or not np.issubdtype(index.dtype, np.integer):
        raise UsageError(
            f"rows: index must be [n] integers, not empty, got {index.dtype} of shape "
            f"{index.shape}; use np.flatnonzero(index) if it is a mask"
        )
    if not 0 <= index.min() <= index.max() < source.size:
        raise UsageError(
            f"rows: index must be in [0, {source.size}), the examples of "
            f"{source.name}, got {index.min()} .. {index.max()}"
        )
    return source._replace(
        size=len(index),
        labels=None if source.labels is None else labels_at(source, index),
        images=None if source.images is None else source.images[index],
        load=functools.partial(_load_row, source.load, index),
        fields=fields_at(source, index),
        held_out=None,
        chosen=Chosen(_numbers(source, index), _of_all(source)),
        files=Taken(source.files, index) if source.files else (),
    )


def _load_row(load: Callable[[int], np.ndarray], index: np.ndarray, i: int):
    return load(int(index[i]))


def fits(source: Source, *, limit_bytes: int) -> bool:
    """Whether `resident` holds the images of a source, or leaves them where they are.

    Args:
      source: any source.
      limit_bytes: the most that the images may take, in bytes.
    """
    needed = source.size * int(np.prod(source.image_shape))
    return in_memory(source) or needed <= limit_bytes


def resident(
    source: Source,
    *,
    limit_bytes: int,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Source:
    """Decode a source into memory if it fits.

    Args:
      source: any source; its held-out part is treated alike, with what the first
        part leaves of the limit.
      limit_bytes: the most that the images may take, in bytes.
      threads: decoding threads, >= 1; None: as many as processors.
      progress: called with (done, size) from the calling thread as images arrive.

    Returns:
      The source with `images` filled, or as it was where it does not fit. Labels of
      undecodable files are -1, their fields those of the images shown for them.

    Raises:
      UsageError: threads out of range, or too many files cannot be decoded.
    """
    if threads is not None:
        whole("resident", threads=threads)
        at_least("resident", threads=(threads, 1))
    if not in_memory(source) and fits(source, limit_bytes=limit_bytes):
        images = _decode_all(source, threads, progress)
        everything = np.arange(source.size)
        labels = source.labels
        if labels is not None:
            labels = labels_at(source, everything)
        source = source._replace(
            images=images,
            labels=labels,
            fields=fields_at(source, everything),
            load=images.__getitem__,
        )
    if source.held_out is not None:
        held = 0 if source.images is None else source.images.nbytes
        held_out = resident(
            source.held_out,
            limit_bytes=limit_bytes - held,
            threads=threads,
            progress=progress,
        )
        source = source._replace(held_out=held_out)
    return source


def _images(source, index, decoders: Decoders | None) -> np.ndarray:
    images = np.empty((len(index), *source.image_shape), np.uint8)

    def make(i: int) -> np.ndarray:
        return _image(source, int(index[i]))

    if decoders is None:
        for i in range(len(index)):
            images[i] = make(i)
    else:
        decoders.fill(images, make)
    return images


def _image(source: Source, i: int) -> np.ndarray:
    image = np.asarray(source.load(i))
    if image.dtype != np.uint8 or image.shape != source.image_shape:
        raise UsageError(
            f"{source.name}: load({i}) gave {image.dtype} {list(image.shape)}, "
            f"expected uint8 {list(source.image_shape)}, as image_shape says"
        )
    return image


def _decode_all(source, threads, progress) -> np.ndarray:
    images = np.empty((source.size, *source.image_shape), np.uint8)

    def fill(start: int) -> int:
        stop = min(start + 64, source.size)
        for i in range(start, stop):
            images[i] = _image(source, i)
        return stop - start

    done, pool = 0, Threads(threads or cores(), "decode")
    try:
        parts = [pool.submit(fill, at) for at in range(0, source.size, 64)]
        for part in parts:
            done += part.result()
            if progress is not None:
                progress(done, source.size)
    finally:
        pool.close()
    images.flags.writeable = False
    return images
