"""Sources of token windows from text files, and from the text that Python brings."""

import logging
import os
from collections.abc import Sequence

import numpy as np

from rl_jax.data import tokens
from rl_jax.data.arguments import whole
from rl_jax.data.folder import classes_of, labels_of, listed, parts
from rl_jax.data.records import records
from rl_jax.data.source import Source
from rl_jax.data.split import check_share, nothing_held_out, stratified
from rl_jax.errors import UsageError
from rl_jax.files import printable

_log = logging.getLogger("rl_jax.data")
SUFFIXES = (".txt", ".md")
_MAX_CLASSES = 1000
# Characters beyond which what has no white space is no word, in Chinese for one.
_WORD = 32


def text(
    path: str | os.PathLike,
    *,
    vocab_size: int = 8192,
    length: int = 64,
    held_out: float = 0.1,
    lowercase: bool = True,
    limit_bytes: int = 1 << 28,
) -> Source:
    """Windows of tokens from a text file or a directory tree of .txt and .md files.

    Files are UTF-8, or UTF-16 with a byte order mark. Every file is cut into windows
    of `length` tokens, the last one padded; the tokens are learned from the training
    part alone (see `train_pieces`, which needs the package `tokenizers`).

    Labels: the first-level sub-directories, if at least two of them hold text; else
    the files, if there are 2 to 1,000 of them, named with their suffix only where two
    would be named alike. Held out are the directory `val` (else `test`) beside `train`,
    as `folder` has it; else, where directories are the labels, a share of the files of
    each; else the end of each file.

    Args:
      path: the file or directory.
      vocab_size: the most tokens there may be, in [259, 2^20].
      length: tokens of a window, in [1, 2^13].
      held_out: the share kept for testing, in [0, 1); 0: none.
      lowercase: whether to drop case.
      limit_bytes: the most that the files may hold together, in bytes; checked before
        they are read.

    Returns:
      A source with the field `tokens` [n, length] int32 and its `vocabulary`.

    Raises:
      UsageError: no such file, no text, too much of it, or bad arguments.
    """
    whole("text", limit_bytes=limit_bytes)
    check_share(held_out, "text")
    tokens.check_length(length)
    root = os.path.abspath(os.fspath(path))
    if not os.path.exists(root):
        raise UsageError(f"text: no such file or directory: {root!r}")
    if os.path.isdir(root):
        roots = parts(root, "text")
        names = [listed(part, SUFFIXES, "text", "text files") for part in roots]
    elif not os.path.isfile(root):
        raise UsageError(f"text: {root!r} is neither a file nor a directory")
    else:
        roots, names = [os.path.dirname(root)], [[os.path.basename(root)]]
    pairs = list(zip(roots, names, strict=True))
    _check_total([os.path.join(part, n) for part, of in pairs for n in of], limit_bytes)
    content = [
        [_read(os.path.join(part, n), limit_bytes) for n in of] for part, of in pairs
    ]

    classes = classes_of(names)
    labels = [labels_of(part, classes) for part in names]
    if len(roots) == 1:
        content, labels = _divided(content[0], labels[0], held_out)
        if not classes and 2 <= len(names[0]) <= _MAX_CLASSES:
            classes = [os.path.splitext(name)[0] for name in names[0]]
            if len(set(classes)) < len(classes):
                classes = names[0]
            labels = [np.arange(len(classes), dtype=np.int32)] * len(content)
    learned = tokens.train_pieces(
        content[0], vocab_size=vocab_size, lowercase=lowercase
    )
    source = _windows(
        learned,
        content,
        labels,
        length,
        name=printable(os.path.basename(root)),
        class_names=tuple(printable(name) for name in classes),
    )
    if held_out and source.held_out is None:
        nothing_held_out("text", source.name, held_out)
    return source


def topics(*, vocab_size: int = 2000, length: int = 64) -> Source:
    """The help topics that ship with Python, English reference text.

    The text of `pydoc_data.topics`, which differs between versions of Python. A
    paragraph that is in several topics counts in the first of them only: what is held
    out, the last tenth of each topic, would be in the training part otherwise. In
    Python 3.11 that leaves 96,909 of 119,863 tokens, 3,292 different ones: whole words
    without case, numbers and single marks.

    Args:
      vocab_size: the most tokens there may be, in [4, 2^20]; other words are unknown.
      length: tokens of a window, in [1, 2^13].

    Returns:
      A source with the field `tokens` [n, length] int32 and its `vocabulary`.

    Raises:
      UsageError: bad arguments.
    """
    from pydoc_data.topics import topics as pages

    content = _both(_once([pages[name] for name in sorted(pages)]), 0.1)
    learned = tokens.train_words(content[0], vocab_size=vocab_size)
    return _windows(learned, content, [None, None], length, name="topics")


def _windows(
    tokenizer: tokens.Tokenizer,
    content: Sequence[Sequence[str]],
    labels: Sequence[np.ndarray | None],
    length: int,
    *,
    name: str,
    class_names: tuple[str, ...] | None = None,
) -> Source:
    source = None
    for part in reversed(range(len(content))):
        rows, of = tokens.windows(tokenizer.encode(content[part]), length)
        if not len(rows) and part:
            continue
        if not len(rows):
            raise UsageError(f"text: nothing but white space in the files of {name!r}")
        known = labels[part]
        source = records(
            {"tokens": rows},
            None if known is None else known[of],
            name=f"{name} held out" if part else name,
            class_names=class_names,
            vocabulary=tokenizer.vocabulary,
            held_out=source,
        )
    assert source is not None
    return source


def _divided(texts: Sequence[str], labels: np.ndarray | None, share: float):
    """The texts and labels of the training part, and of the part held out."""
    if not share:
        return [texts], [labels]
    if labels is None:
        return _both(texts, share), [None, None]
    held = stratified(labels + 1, min(round(share * len(texts)), len(texts) - 1))
    chosen = [np.flatnonzero(~held), np.flatnonzero(held)]
    return [[texts[i] for i in part] for part in chosen], [labels[p] for p in chosen]


def _both(content: Sequence[str], share: float) -> list[list[str]]:
    """The beginnings of texts, and their ends."""
    cut = [_cut(each, share) for each in content]
    return [[start for start, _ in cut], [end for _, end in cut]]


def _once(texts: Sequence[str]) -> list[str]:
    """The texts without the paragraphs that came before, in them or another."""
    seen: set[str] = set()
    found = []
    for each in texts:
        paragraphs = {" ".join(p.split()): p for p in each.split("\n\n")}
        new = [p for key, p in paragraphs.items() if key not in seen]
        seen |= paragraphs.keys()
        found.append("\n\n".join(new))
    return found


def _cut(content: str, share: float) -> tuple[str, str]:
    """The text and its end, parted at white space where there are words."""
    at = len(content) - round(share * len(content))
    after = min(at + _WORD, len(content))
    space = (i for i in range(at, after) if content[i].isspace())
    at = next(space, at if after < len(content) else after)
    return content[:at], content[at:]


def _check_total(files: list[str], limit_bytes: int) -> None:
    try:
        total = sum(os.stat(file).st_size for file in files)
    except OSError as error:
        raise _unreadable(str(error.filename), error) from None
    if total > limit_bytes:
        raise UsageError(
            f"text: {len(files):,} files of {total:,} bytes, limit_bytes is "
            f"{limit_bytes:,}"
        )


def _read(file: str, limit_bytes: int) -> str:
    try:
        with open(file, "rb") as opened:
            data = opened.read(limit_bytes + 1)
    except OSError as error:
        raise _unreadable(file, error) from None
    if len(data) > limit_bytes:
        raise UsageError(f"text: {file!r} grows while it is read")
    return decoded(data, file)


def decoded(data: bytes, file: str) -> str:
    """Text of a file; bytes that are no UTF-8 are logged and replaced."""
    utf16 = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    content = data.decode("utf-16" if utf16 else "utf-8-sig", "replace")
    if "\0" in content:
        raise UsageError(f"text: {file!r} is not text: it holds zero bytes")
    if bad := content.count("\ufffd"):
        shown = printable(file)
        _log.warning("text: %s: %d characters are not UTF-8, replaced", shown, bad)
    return content


def _unreadable(file: str, error: OSError) -> UsageError:
    return UsageError(f"text: cannot read {file!r}: {error.strerror}")
