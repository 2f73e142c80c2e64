"""From text to the ids of tokens and back; a vocabulary decides it alone."""

import collections
import importlib
import itertools
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from rl_jax.data.arguments import whole
from rl_jax.errors import UsageError

PAD, UNK, MASK = 0, 1, 2
SPECIAL = ("[PAD]", "[UNK]", "[MASK]")
MAX_VOCABULARY = 2**20
MAX_LENGTH = 2**13
# Characters read at a time, and characters that merges are learned from.
_CHUNK = 2**16
_SAMPLE = 2**26
_CACHED = 2**18

# Runs of at most 24 letters or marks, of digits, or of punctuation, so that a text
# without spaces is no single word. The space before a word belongs to it.
_PUNCTUATION = (
    r"!-/:-@\[-`{-~\u00a1-\u00bf\u2010-\u2027\u2030-\u205e\u3001-\u303f\uff01-\uff0f"
)
_PIECES = re.compile(
    rf"(\s*)([^\s\d{_PUNCTUATION}]{{1,24}}|\d{{1,24}}|[{_PUNCTUATION}]{{1,24}})"
)
_WORDS = re.compile(r"[^\W\d_]+|\d+|[^\w\s]|_")


class Tokenizer(NamedTuple):
    """From texts to ids and back.

    Attributes:
      vocabulary: the token of each id; 0 pads, 1 is unknown, 2 masks.
      encode: `(texts) -> [int32 [l], ...]`: the ids of each text, of its own length;
        never 0 or 2, whatever the text says.
      decode: `(ids) -> str`: about the text, without padding.
    """

    vocabulary: tuple[str, ...]
    encode: Callable[[Sequence[str]], list[np.ndarray]]
    decode: Callable[[Sequence[int] | np.ndarray], str]


def train_pieces(
    texts: Sequence[str], *, vocab_size: int = 8192, lowercase: bool = True
) -> Tokenizer:
    """Learn pieces of words (byte-level BPE; Sennrich et al. 2016, arXiv:1508.07909).

    The same texts give the same vocabulary. At most 67 million characters are read,
    in chunks at equal distances where there are more. Needs the package `tokenizers`.

    Args:
      texts: what to learn from.
      vocab_size: the most tokens there may be, in [259, 2^20]; short texts give fewer.
      lowercase: whether to drop case.

    Returns:
      `pieces` of what was learned.

    Raises:
      UsageError: vocab_size out of range, or `tokenizers` is not installed.
    """
    fewest = len(SPECIAL) + len(_BYTES)
    check_vocab_size(vocab_size, fewest, "pieces of words")
    try:
        library = importlib.import_module("tokenizers")
    except ImportError:
        raise UsageError(
            "learning a vocabulary needs the package tokenizers: "
            "pip install 'rl-jax[text]'"
        ) from None
    # The rules for text are this file's, so that they are the same when encoding, and
    # the library sees words in the alphabet of bytes, in which there is no space.
    model = library.Tokenizer(library.models.BPE())
    model.pre_tokenizer = library.pre_tokenizers.WhitespaceSplit()
    trainer = library.trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(_BYTES),
        show_progress=False,
    )
    every = -(-sum(map(len, texts)) // _SAMPLE) or 1
    chunks = (chunk for text in texts for chunk in _chunks(text))
    read = itertools.islice(chunks, 0, None, every)
    model.train_from_iterator(
        (" ".join(map(_in_bytes, _split(chunk, lowercase))) for chunk in read), trainer
    )
    ids = model.get_vocab()
    return pieces(sorted(ids, key=ids.__getitem__), lowercase=lowercase)


def pieces(vocabulary: Sequence[str], *, lowercase: bool = True) -> Tokenizer:
    """Cut words into the longest pieces that a vocabulary has, from the left.

    The rule of WordPiece (Wu et al. 2016, arXiv:1609.08144) over bytes: as every byte
    is a piece, no text is unknown. Text is brought to Unicode NFC; white space only
    separates.

    Args:
      vocabulary: of `train_pieces`, written in the alphabet of GPT-2, in which "Ġ" is
        the space before a word.
      lowercase: as in training.

    Returns:
      A tokenizer; needs no package.

    Raises:
      UsageError: the vocabulary lacks the special tokens or a byte, or holds others.
    """
    ids = _ids(vocabulary)
    if lacking := [byte for byte in _BYTES if byte not in ids]:
        raise UsageError(
            f"pieces: the vocabulary lacks {len(lacking)} of the 256 bytes, the first "
            f"is {lacking[0]!r}; take one of train_pieces"
        )
    if strange := [token for token in ids if not _VALUES.keys() >= set(token)]:
        raise UsageError(
            f"pieces: {strange[0]!r} is not written in the alphabet of bytes; "
            "take the vocabulary of train_pieces"
        )
    longest = max(map(len, vocabulary))

    def cut(word: str) -> list[int]:
        text, found, start = _in_bytes(word), [], 0
        while start < len(text):
            stop = min(start + longest, len(text))
            while text[start:stop] not in ids:
                stop -= 1
            found.append(ids[text[start:stop]])
            start = stop
        return found

    def encode(texts):
        cache: dict[str, list[int]] = {}

        def known(word: str) -> list[int]:
            if word not in cache:
                if len(cache) >= _CACHED:
                    cache.clear()
                cache[word] = cut(word)
            return cache[word]

        def chunk_ids(chunk):
            found = itertools.chain.from_iterable(map(known, _split(chunk, lowercase)))
            return np.fromiter(found, np.int32)

        return [_joined(map(chunk_ids, _chunks(text))) for text in texts]

    def decode(ids) -> str:
        words = [
            SPECIAL[i] if i < len(SPECIAL) else vocabulary[i] for i in ids if i != PAD
        ]
        data = b"".join(
            f" {word}".encode() if word in SPECIAL else bytes(map(_VALUES.get, word))
            for word in words
        )
        return data.decode("utf-8", "replace").strip()

    return Tokenizer(tuple(vocabulary), encode, decode)


def train_words(
    texts: Sequence[str], *, vocab_size: int = 8192, lowercase: bool = True
) -> Tokenizer:
    """Take the most frequent words, single punctuation marks and numbers as tokens.

    Args:
      texts: what to learn from.
      vocab_size: the most tokens there may be, in [4, 2^20].
      lowercase: whether to drop case.

    Returns:
      `words` of what was found; equally frequent ones in alphabetical order.

    Raises:
      UsageError: vocab_size out of range.
    """
    check_vocab_size(vocab_size, len(SPECIAL) + 1, "words")
    counts: collections.Counter[str] = collections.Counter()
    for chunk in itertools.chain.from_iterable(map(_chunks, texts)):
        counts.update(_WORDS.findall(_normal(chunk, lowercase)))
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    return words((*SPECIAL, *ranked[: vocab_size - len(SPECIAL)]), lowercase=lowercase)


def words(vocabulary: Sequence[str], *, lowercase: bool = True) -> Tokenizer:
    """Whole words by their place in a vocabulary; others are unknown.

    Args:
      vocabulary: the special tokens and words.
      lowercase: whether to drop case.

    Returns:
      A tokenizer.

    Raises:
      UsageError: the vocabulary lacks the special tokens.
    """
    ids = _ids(vocabulary)

    def chunk_ids(chunk):
        found = _WORDS.findall(_normal(chunk, lowercase))
        return np.fromiter((ids.get(word, UNK) for word in found), np.int32)

    def encode(texts):
        return [_joined(map(chunk_ids, _chunks(text))) for text in texts]

    def decode(ids) -> str:
        return " ".join(vocabulary[i] for i in ids if i != PAD)

    return Tokenizer(tuple(vocabulary), encode, decode)


def padded(texts: Sequence[np.ndarray], length: int) -> np.ndarray:
    """Each text's ids cut or padded to one length: [n, length] int32."""
    check_length(length)
    rows = np.full((len(texts), length), PAD, np.int32)
    for row, ids in zip(rows, texts, strict=True):
        row[: len(ids)] = ids[:length]
    return rows


def windows(texts: Sequence[np.ndarray], length: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut texts into windows that follow each other without overlap.

    Args:
      texts: the ids of each text.
      length: of a window, in [1, 2^13]; the last one of a text is padded.

    Returns:
      ([n, length] int32, [n] the text each window is from).
    """
    check_length(length)
    counts = np.array([-(-len(ids) // length) for ids in texts], np.int64)
    rows = np.full((int(counts.sum()), length), PAD, np.int32)
    for first, ids in zip(np.cumsum(counts) - counts, texts, strict=True):
        rows[first:].reshape(-1)[: len(ids)] = ids
    return rows, np.repeat(np.arange(len(texts)), counts)


def class_prompts(
    tokenizer: Tokenizer,
    class_names: Sequence[str],
    templates: Sequence[str],
    *,
    length: int,
) -> np.ndarray:
    """Texts that name each class, for zero-shot classification.

    Args:
      tokenizer: of the data.
      class_names: C names.
      templates: T texts with the name's place marked `{}`.
      length: of the result, in [1, 2^13].

    Returns:
      [C, T, length] int32.

    Raises:
      UsageError: a template without `{}`, or length out of range.
    """
    if bad := [template for template in templates if "{}" not in template]:
        raise UsageError(f"class_prompts: templates must hold {{}}, got {bad[0]!r}")
    # Not str.format, which would read attributes named in a template.
    texts = [t.replace("{}", name) for name in class_names for t in templates]
    rows = padded(tokenizer.encode(texts), length)
    return rows.reshape(len(class_names), len(templates), length)


def check_vocab_size(vocab_size: int, fewest: int, what: str) -> None:
    """Refuse a vocabulary that is too small for its kind, or has no bound."""
    whole("tokens", vocab_size=vocab_size)
    if not fewest <= vocab_size <= MAX_VOCABULARY:
        raise UsageError(
            f"vocab_size must be in [{fewest}, {MAX_VOCABULARY}] for {what}, "
            f"got {vocab_size}"
        )


def check_length(length: int) -> None:
    """Refuse a number of tokens that pads texts beyond all bounds."""
    whole("tokens", length=length)
    if not 1 <= length <= MAX_LENGTH:
        raise UsageError(f"length must be in [1, {MAX_LENGTH}] tokens, got {length}")


def _ids(vocabulary: Sequence[str]) -> dict[str, int]:
    if tuple(vocabulary[: len(SPECIAL)]) != SPECIAL:
        raise UsageError(
            f"a vocabulary must start with {', '.join(SPECIAL)}, "
            f"got {list(vocabulary[: len(SPECIAL)])}"
        )
    # A text that says "[MASK]" must not come out as the mask.
    return {t: i for i, t in enumerate(vocabulary) if i >= len(SPECIAL)}


def _joined(parts: Iterable[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.int32), *parts])


def _chunks(text: str) -> Iterable[str]:
    """Parts of a text, cut at white space where there is any."""
    start = 0
    while start < len(text):
        stop = start + _CHUNK
        if stop < len(text):
            space = max(text.rfind(space, start + 1, stop) for space in " \n\t")
            stop = space if space > 0 else stop
        yield text[start:stop]
        start = stop


def _normal(text: str, lowercase: bool) -> str:
    text = unicodedata.normalize("NFC", text)
    return text.lower() if lowercase else text


def _split(text: str, lowercase: bool) -> list[str]:
    found = _PIECES.findall(_normal(text, lowercase))
    words = [f" {word}" if space else word for space, word in found]
    if words and not words[0].startswith(" "):
        words[0] = f" {words[0]}"
    return words


def _byte_alphabet() -> dict[int, str]:
    # GPT-2's: printable bytes stand for themselves, the others follow 255.
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = (byte for byte in range(256) if byte not in shown)
    return {b: chr(b) for b in shown} | {b: chr(256 + i) for i, b in enumerate(rest)}


_CODES = _byte_alphabet()
_VALUES = {code: byte for byte, code in _CODES.items()}
_BYTES = tuple(_VALUES)


def _in_bytes(word: str) -> str:
    # A lone surrogate, as JSON may hold, has no bytes and becomes a question mark.
    return "".join(map(_CODES.__getitem__, word.encode("utf-8", "replace")))
