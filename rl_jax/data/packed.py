"""Many texts in few objects: ten million names of files are no ten million strings."""

from collections.abc import Iterable, Sequence

import numpy as np


class Packed(Sequence[str]):
    """Texts as the bytes of all of them and the place where each ends.

    Bytes that are no UTF-8 become lone surrogates, as in file names.

    Args:
      data: uint8 [m], text after text.
      ends: int64 [n], ascending.
    """

    def __init__(self, data: np.ndarray, ends: np.ndarray):
        self.data, self.ends = data, ends

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index) -> str:
        stop = self.ends[index]
        # Of -1, too, as Python counts from the end.
        before = index - 1 if index >= 0 else len(self) + index - 1
        start = self.ends[before] if before >= 0 else 0
        return self.data[start:stop].tobytes().decode(errors="surrogateescape")

    def lengths(self) -> np.ndarray:
        """Bytes of each text, [n]."""
        return np.diff(self.ends, prepend=0)


def packed(texts: Iterable[bytes]) -> Packed:
    """Packs texts of UTF-8."""
    data, lengths = bytearray(), []
    for text in texts:
        data += text
        lengths.append(len(text))
    ends = np.cumsum(np.array(lengths, np.int64))
    return Packed(np.frombuffer(bytes(data), np.uint8), ends)


def joined(parts: Sequence[Packed]) -> Packed:
    """All texts of several, in their order."""
    sizes = np.cumsum([0] + [len(part.data) for part in parts])
    data = np.concatenate([np.zeros(0, np.uint8), *(part.data for part in parts)])
    ends = [part.ends + start for part, start in zip(parts, sizes, strict=False)]
    return Packed(data, np.concatenate([np.zeros(0, np.int64), *ends]))


class Taken(Sequence[str]):
    """The texts at some places of others, in that order; they are not copied.

    Args:
      texts: the others.
      places: int [n], in [0, len(texts)).
    """

    def __init__(self, texts: Sequence[str], places: np.ndarray):
        self._texts, self._places = texts, places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index) -> str:
        return self._texts[int(self._places[index])]
