"""Files that are whole or not there."""

import contextlib
import os
import pathlib
from collections.abc import Iterator
from typing import BinaryIO


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
