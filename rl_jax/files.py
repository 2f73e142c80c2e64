"""Files that are whole or not there, and files of others read without trust."""

import contextlib
import fcntl
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any, BinaryIO

MAX_BYTES = 200 * 2**20
"""The most that is read of a file of text."""


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[BinaryIO]:
    """Opens a draft that takes the place of `path` once the block has ended.

    A reader finds what was there before or all that is new, also after a power cut.
    Where the block or the disk fails, the draft goes and `path` stays as it was.

    Args:
      path: of the file; its folder is there.

    Yields:
      the draft, open for bytes.

    Raises:
      OSError: of the disk, with the name of the file.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with draft.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except OSError as error:
        if error.filename in (None, str(draft)):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a file of UTF-8 whole, as `replacing` does."""
    with replacing(path) as file:
        file.write(text.encode())


def read_text(path: pathlib.Path) -> str:
    """The text of a file of bearable size; what is no UTF-8 in it is replaced.

    Raises:
      OSError: when it is not there or cannot be read.
      ValueError: when it has more than `MAX_BYTES`, which are not read.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_BYTES:
            raise ValueError(
                f"it has {size / 2**20:.0f} MB, at most {MAX_BYTES / 2**20:.0f} MB are "
                "read"
            )
        return file.read(MAX_BYTES).decode(errors="replace")


def read_json(path: pathlib.Path) -> Any:
    """What a file of JSON holds.

    Raises:
      OSError: when it is not there or cannot be read.
      ValueError: when it is too large, no JSON, or nested too deeply.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def is_locked(path: pathlib.Path) -> bool:
    """Whether a process holds `path` by `flock`, and has written who it is.

    Nothing is changed; a file without a word is not even asked for its lock.

    Args:
      path: of the file; it need not be there.
    """
    with contextlib.suppress(OSError):
        if not path.is_file() or not path.stat().st_size:
            return False
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
    return False


def printable(name: str) -> str:
    """A file name with control characters and broken bytes escaped: one safe line."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in name
    )
