"""From the bytes of a JPEG, PNG or WebP file to uint8 RGB of one fixed size."""

import errno
import functools
import importlib
import io
import math
import os
import time

import numpy as np

from rl_jax.data.arguments import at_least, whole
from rl_jax.errors import UsageError, WorkerError

MAX_PIXELS = 2**26
MAX_BYTES = 2**28
# Errors of the machine, not of the file: replacing the file would hide them, and
# would make the stream depend on when they happened.
MACHINE = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.ESTALE}
_ORIENTATION = 0x0112


class DecodeError(ValueError):
    """A file that is not a decodable image; the message is the reason."""


def read_image(path: str | os.PathLike, *, size: int) -> np.ndarray:
    """Read and decode one file, as `decode` does.

    Args:
      path: a JPEG, PNG or WebP file of at most 256 MiB.
      size: side of the result, in pixels.

    Returns:
      [size, size, 3] uint8.

    Raises:
      DecodeError: the file cannot be opened or decoded.
      WorkerError: the machine failed (too many open files, out of memory, I/O).
    """
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        if error.errno in MACHINE:
            message = f"cannot read {os.fspath(path)!r}: {error.strerror}"
            raise WorkerError(message) from error
        raise DecodeError(error.strerror or str(error)) from None
    if len(data) > MAX_BYTES:
        raise DecodeError(f"larger than {MAX_BYTES} bytes")
    return decode(data, size=size)


def shorter_side(data: bytes) -> int | None:
    """In pixels, by the header of an image; None for bytes that are none."""
    try:
        return min(_open(data).size)
    except Exception:  # as in `decode`
        return None


def decode(data: bytes, *, size: int) -> np.ndarray:
    """Decode an image, resize its shorter side to `size` and crop the centre.

    EXIF rotation is applied; grey, palette and CMYK become RGB; transparency is laid
    over white; 16-bit grey is scaled to 8 bit; of an animation the first frame
    counts. Resizing is bicubic and antialiased. A large JPEG is first scaled down by
    2, 4 or 8 inside the decoder, never below `size`. simplejpeg, where installed,
    decodes the JPEGs it can; Pillow judges what is damaged in either case.

    Args:
      data: the content of a JPEG, PNG or WebP file, at most 67 megapixels.
      size: side of the result, in pixels, >= 1.

    Returns:
      [size, size, 3] uint8.

    Raises:
      DecodeError: not such a file, damaged, or too many pixels.
    """
    from PIL import Image

    try:
        image = _open(data)
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise DecodeError(f"{width} x {height} pixels, the limit is {MAX_PIXELS}")
        pixels = _flatten(_load(image, data, size))
        pixels = _upright(pixels, image)
        side = min(pixels.size)
        left, top = ((length - side) / 2 for length in pixels.size)
        # Resizing the box alone keeps a 1 x 4000 image from growing to 1 x 4000 tiles.
        pixels = pixels.resize(
            (size, size), Image.Resampling.BICUBIC, (left, top, left + side, top + side)
        )
        return np.array(pixels.convert("RGB"))
    except (DecodeError, MemoryError):
        raise
    except Exception as error:  # damaged files raise nearly anything inside Pillow
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise DecodeError(reason) from None


def _open(data: bytes):
    # Pillow's `Image.open` would try all its formats, and would warn about or refuse
    # large images by a limit that is one for the whole process.
    from PIL import JpegImagePlugin, PngImagePlugin, WebPImagePlugin

    file = io.BytesIO(data)
    if data[:3] == b"\xff\xd8\xff":
        return JpegImagePlugin.JpegImageFile(file)
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return PngImagePlugin.PngImageFile(file)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return WebPImagePlugin.WebPImageFile(file)
    raise DecodeError("empty file" if not data else "not a JPEG, PNG or WebP file")


def _load(image, data: bytes, size: int):
    if image.format == "JPEG":
        image.draft("RGB", (size, size))
        if image.mode in ("L", "RGB") and (turbo := _turbo(data, image.size)):
            return turbo
    image.load()
    _scale_key(image, data)
    return image


def _scale_key(image, data: bytes) -> None:
    """Brings the grey or colour that a PNG calls transparent to 8 bits, as its pixels.

    Pillow leaves it in the file's depth. Of 16-bit colours it drops the lower halves:
    those that differ from the key there alone count as transparent, too.
    """
    key = image.info.get("transparency")
    if image.format != "PNG" or key is None:
        return
    depth = data[24]
    if image.mode == "L":
        image.info["transparency"] = key * 255 // (2**depth - 1)
    elif image.mode == "RGB" and depth == 16:
        image.info["transparency"] = tuple(value >> 8 for value in key)


def _turbo(data: bytes, size: tuple[int, int]):
    from PIL import Image

    simplejpeg = _simplejpeg()
    if simplejpeg is None:
        return None
    width, height = size
    try:
        pixels = simplejpeg.decode_jpeg(data, "RGB", min_width=width, min_height=height)
    except ValueError:
        return None
    if pixels.shape != (height, width, 3):
        return None
    return Image.fromarray(pixels)


@functools.cache
def _simplejpeg():
    try:
        return importlib.import_module("simplejpeg")
    except ImportError:
        return None


def _flatten(image):
    """Any mode to 8-bit grey or RGB without transparency."""
    from PIL import Image

    if image.mode.startswith("I"):
        wide = np.asarray(image).astype(np.int64)
        grey = ((wide * 255 + 32767) // 65535).astype(np.uint8)
        grey[wide == image.info.get("transparency", -1)] = 255
        return Image.fromarray(grey)
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image.convert("RGBA"))
        return white.convert("RGB")
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def _upright(pixels, image):
    from PIL import Image

    turn = Image.Transpose
    turns = {
        2: turn.FLIP_LEFT_RIGHT,
        3: turn.ROTATE_180,
        4: turn.FLIP_TOP_BOTTOM,
        5: turn.TRANSPOSE,
        6: turn.ROTATE_270,
        7: turn.TRANSVERSE,
        8: turn.ROTATE_90,
    }
    try:
        method = turns.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # broken EXIF beside sound pixels
        method = None
    return pixels if method is None else pixels.transpose(method)


def decode_speed(
    path: str | os.PathLike | None = None, *, size: int = 224, seconds: float = 0.5
) -> float:
    """Images decoded per second on one thread, from memory.

    Args:
      path: the image file to decode; None: a synthetic JPEG of 500 x 375 pixels.
      size: side of the result, in pixels, >= 1.
      seconds: how long to measure, > 0.

    Returns:
      Images per second.

    Raises:
      UsageError: an argument out of range, or a file that cannot be decoded.
    """
    whole("decode_speed", size=size)
    at_least("decode_speed", size=(size, 1))
    if not seconds > 0:
        raise UsageError(f"decode_speed: seconds must be > 0, got {seconds}")
    try:
        if path is None:
            data = _synthetic_jpeg()
        else:
            with open(path, "rb") as file:
                data = file.read(MAX_BYTES)
        decode(data, size=size)
    except (OSError, DecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"decode_speed: cannot decode {path!r}: {reason}") from None
    count, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds:
        decode(data, size=size)
        count += 1
    return count / passed if passed > 0 else math.inf


def _synthetic_jpeg() -> bytes:
    # Coarse noise under fine noise: about as many bits per pixel as a photograph.
    from PIL import Image

    bits = np.random.Philox(key=0).random_raw(500 * 375 * 3 // 8 + 1).view(np.uint8)
    fine = bits[: 500 * 375 * 3].reshape(375, 500, 3)
    coarse = Image.fromarray(fine[:12, :16]).resize(
        (500, 375), Image.Resampling.BICUBIC
    )
    mixed = np.asarray(coarse).astype(np.int32) * 7 // 8 + fine.astype(np.int32) // 8
    file = io.BytesIO()
    Image.fromarray(mixed.astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()
