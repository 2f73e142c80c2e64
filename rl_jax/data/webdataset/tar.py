"""Where the members of a tar lie, by its headers alone, and their bytes.

`tarfile` of the standard library takes a header in the middle that is damaged for the
end, without an error: half the images would be gone unseen.
"""

import functools
import os
from collections.abc import Iterator
from typing import NamedTuple

from rl_jax.data.decode import MACHINE
from rl_jax.errors import UsageError, WorkerError

_BLOCK = 512
_PAGE = 1 << 13
_MAX_NAME = 1 << 20
_OPEN = 64
COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
}


class TarError(ValueError):
    """A file that is no sound tar; the message is the reason."""


class Member(NamedTuple):
    """A file in a tar.

    Attributes:
      name: its path there.
      offset, size: of its bytes in the tar.
      plain: whether those are its content: they are not of a link or a sparse file.
    """

    name: bytes
    offset: int
    size: int
    plain: bool


class Headers:
    """Reads a tar by its headers; what lies between them is not read.

    Args:
      descriptor: of the open file.
      size: of the file, in bytes.
    """

    def __init__(self, descriptor: int, size: int):
        self._descriptor, self._size = descriptor, size
        self._page, self._start = b"", 0

    def content(self, offset: int, size: int) -> bytes:
        """Bytes at a place, from the page around it where that is short."""
        first = offset - self._start
        if not 0 <= first <= len(self._page) - size:
            length = max(size, _PAGE)
            self._page = os.pread(self._descriptor, length, offset)
            self._start, first = offset, 0
        return self._page[first : first + size]

    def __iter__(self) -> Iterator[Member]:
        """The members that are files or links, in their order.

        Raises:
          TarError: the tar is cut short, damaged, compressed or none.
        """
        at, long_name, extended = 0, b"", {}
        if not self._size:
            raise TarError("is empty, 0 bytes")
        while at < self._size:
            header = self.content(at, _BLOCK)
            if not at:
                _check_start(header)
            if len(header) < _BLOCK:
                raise self._cut_short()
            if not header.strip(b"\0"):
                return
            _check(header, at)
            kind = header[156:157]
            size = _number(header[124:136], at)
            at += _BLOCK
            if kind in b"Lx":
                if size > _MAX_NAME:
                    raise TarError(f"is damaged: a name of {size} bytes at byte {at}")
                content = self.content(at, size)
                if len(content) < size:
                    raise self._cut_short()
                if kind == b"L":
                    long_name = content.rstrip(b"\0")
                else:
                    extended = _extended(content, at)
                at += _padded(size)
                continue
            more = kind == b"S" and header[482:483] == b"\1"
            while more:  # blocks that say where a sparse file has holes
                more = self.content(at, _BLOCK)[504:505] == b"\1"
                at += _BLOCK
            name = extended.get(b"path") or long_name or _name(header)
            size = int(extended.get(b"size", size))
            # As old tars write a directory.
            kind = b"5" if kind in b"\0" and name.endswith(b"/") else kind
            stored = 0 if kind in b"123456" else size
            if at + stored > self._size:
                raise self._cut_short(name)
            if kind in b"\0" or kind in b"07S12":
                sparse = kind == b"S" or any(b"GNU.sparse" in key for key in extended)
                name = extended.get(b"GNU.sparse.name", name)
                yield Member(name, at, size, not sparse and kind not in b"12")
            if kind not in b"Kg":
                long_name, extended = b"", {}
            at += _padded(stored)
        # Within the padding, or after the name of a member that does not follow. The
        # blocks of zeros at the end are not asked for, as no reader does.
        if at > self._size or long_name or extended:
            raise self._cut_short()

    def _cut_short(self, name: bytes = b"") -> TarError:
        inside = f", inside {os.fsdecode(name)!r}" if name else ""
        return TarError(f"is cut short: it ends after {self._size} bytes{inside}")


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _check(header: bytes, at: int) -> None:
    told = _number(header[148:156], at)
    rest = header[:148] + b" " * 8 + header[156:]
    total = sum(rest)
    # Some old writers added up signed bytes.
    if told != total and told != total - 256 * sum(byte > 127 for byte in rest):
        raise _no_header(at)


def _check_start(header: bytes) -> None:
    for magic, name in COMPRESSED.items():
        if header.startswith(magic):
            raise TarError(
                f"is compressed by {name}, so that its parts have no place: unpack it"
            )


def _no_header(at: int) -> TarError:
    return TarError(
        f"is damaged: there is no header at byte {at}" if at else "is no tar"
    )


def _number(field: bytes, at: int) -> int:
    if field[0] == 0x80:  # base 256, as GNU writes large ones
        return int.from_bytes(field[1:])
    digits = field.strip(b" \0") or b"0"
    try:
        found = int(digits, 8) if digits.isdigit() else -1
    except ValueError:
        found = -1
    if found < 0:
        raise _no_header(at)
    return found


def _name(header: bytes) -> bytes:
    name = header[:100].partition(b"\0")[0]
    prefix = header[345:500].partition(b"\0")[0]
    # GNU's own format has other fields there.
    return prefix + b"/" + name if prefix and header[257:263] == b"ustar\0" else name


def _extended(content: bytes, at: int) -> dict[bytes, bytes]:
    """Records `LENGTH KEY=VALUE` of a POSIX header."""
    found, start = {}, 0
    while start < len(content) and content[start]:
        length, _, _ = content[start : start + 20].partition(b" ")
        stop = start + int(length) if length.isdigit() else -1
        record = content[start + len(length) + 1 : max(stop - 1, 0)]
        key, equals, value = record.partition(b"=")
        size = key != b"size" or (value.isdigit() and len(value) < 20)
        if not equals or not start < stop <= len(content) or not size:
            raise TarError(f"is damaged: no extended header at byte {at}")
        found[key] = value
        start = stop
    return found


class _Descriptor:
    """An open file, closed once nobody holds it: no thread reads from a closed one."""

    def __init__(self, path: str):
        self.number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self):
        if hasattr(self, "number"):
            os.close(self.number)


@functools.lru_cache(maxsize=_OPEN)
def _opened(path: str, size: int, modified: int) -> _Descriptor:
    """Few are open at a time, in each process its own."""
    found = _Descriptor(path)
    if os.fstat(found.number).st_size != size:
        raise UsageError(f"{path!r} has changed since it was opened; start again")
    return found


def read(path: str, size: int, modified: int, at: int, length: int) -> bytes:
    """Bytes of a tar.

    Args:
      path, size, modified: of the tar, as it was when its headers were read.
      at, length: of the bytes.

    Raises:
      UsageError: it is gone or has changed.
      WorkerError: the machine failed.
    """
    try:
        opened = _opened(path, size, modified)
        data = os.pread(opened.number, length, at)
        while len(data) < length:
            more = os.pread(opened.number, length - len(data), at + len(data))
            if not more:
                raise UsageError(f"{path!r} has been cut short since it was opened")
            data += more
    except OSError as error:
        kind = WorkerError if error.errno in MACHINE else UsageError
        raise kind(f"cannot read {path!r}: {error.strerror}") from None
    return data
