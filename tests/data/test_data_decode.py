"""Decoding against Pillow's own functions, and damaged bytes."""

import contextlib
import io
import struct
import types
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from rl_jax.data import decode as decoder
from rl_jax.data import decode_speed
from rl_jax.data.decode import DecodeError, decode, read_image
from rl_jax.errors import WorkerError


def encoded(image, suffix="PNG", **options):
    if not isinstance(image, Image.Image):
        image = Image.fromarray(np.asarray(image))
    file = io.BytesIO()
    image.save(file, suffix, **options)
    return file.getvalue()


def photo(width, height):
    """A smooth colour picture without symmetry."""
    y, x = np.mgrid[0:height, 0:width] / max(width, height)
    channels = [200 * x + 20, 180 * y + 30, 100 + 90 * np.sin(9 * x + 4 * y * y)]
    return np.stack(channels, -1).astype(np.uint8)


def test_same_size_is_lossless():
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    for data in (encoded(noise), encoded(noise, "WEBP", lossless=True)):
        result = decode(data, size=8)
        assert result.dtype == np.uint8
        np.testing.assert_array_equal(result, noise)


def test_centre_crop():
    wide = np.zeros((8, 20, 3), np.uint8)
    wide[:, 6:14] = photo(8, 8)
    np.testing.assert_array_equal(decode(encoded(wide), size=8), photo(8, 8))
    tall = wide.transpose(1, 0, 2)
    expected = photo(8, 8).transpose(1, 0, 2)
    np.testing.assert_array_equal(decode(encoded(tall), size=8), expected)


@pytest.mark.parametrize(("width", "height"), [(60, 40), (40, 60), (33, 91), (10, 14)])
def test_shorter_side_is_resized_then_cropped(width, height):
    size = 16
    scale = size / min(width, height)
    image = Image.fromarray(photo(width, height))
    scaled = (round(width * scale), round(height * scale))
    expected = ImageOps.fit(
        image.resize(scaled, Image.Resampling.BICUBIC), (size, size)
    )
    result = decode(encoded(image), size=size).astype(int)
    assert np.abs(result - np.asarray(expected)).mean() < 1


def test_resizing_is_antialiased():
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 255
    result = decode(encoded(stripes), size=8)[2:-2, 2:-2].astype(int)
    assert np.abs(result - 127.5).max() < 3


@pytest.mark.parametrize("size", [32, 100, 224])
def test_scaling_inside_the_jpeg_decoder(size):
    image = Image.fromarray(photo(800, 600))
    result = decode(encoded(image, "JPEG", quality=95), size=size).astype(int)
    exact = decode(encoded(image), size=size).astype(int)
    assert result.shape == (size, size, 3)
    assert np.abs(result - exact).mean() < 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation(orientation):
    image = Image.fromarray(photo(48, 33))
    exif = Image.Exif()
    exif[0x0112] = orientation
    for options in ({"suffix": "JPEG", "quality": 98}, {"suffix": "PNG"}):
        data = encoded(image, exif=exif, **options)
        upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
        expected = decode(encoded(upright), size=20).astype(int)
        assert np.abs(decode(data, size=20).astype(int) - expected).mean() < 1.5


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_is_ignored():
    data = encoded(photo(8, 8), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\0\0")
    assert decode(data, size=8).shape == (8, 8, 3)


def test_grey_and_palette():
    grey = photo(8, 8)[..., 0]
    np.testing.assert_array_equal(
        decode(encoded(grey), size=8), np.repeat(grey[..., None], 3, axis=2)
    )
    jpeg = decode(encoded(grey, "JPEG", quality=100), size=8).astype(int)
    assert np.abs(jpeg - grey[..., None]).max() < 6
    palette = Image.fromarray(photo(8, 8)).quantize(64)
    expected = np.asarray(palette.convert("RGB"))
    np.testing.assert_array_equal(decode(encoded(palette), size=8), expected)
    bilevel = Image.fromarray(grey > 100)
    expected = np.asarray(bilevel.convert("RGB"))
    np.testing.assert_array_equal(decode(encoded(bilevel), size=8), expected)


def test_sixteen_bits_are_scaled_not_clipped():
    wide = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    expected = np.arange(256).reshape(16, 16)
    np.testing.assert_array_equal(decode(encoded(wide), size=16)[..., 1], expected)


def test_transparency_is_laid_over_white():
    rgba = np.zeros((8, 8, 4), np.uint8)
    rgba[..., 0] = 200
    rgba[4:, :, 3] = 255
    rgba[:2, :, 3] = 51
    for data in (encoded(rgba), encoded(rgba, "WEBP", lossless=True, exact=True)):
        result = decode(data, size=8)
        assert (result[2:4] == 255).all()
        assert (result[4:] == (200, 0, 0)).all()
        np.testing.assert_allclose(result[0, 0], (244, 204, 204), atol=1)
    palette = Image.fromarray(np.eye(8, dtype=np.uint8), "P")
    palette.putpalette([10, 20, 30, 40, 50, 60])
    result = decode(encoded(palette, transparency=0), size=8)
    assert (result[0, 1] == 255).all()
    assert tuple(result[3, 3]) == (40, 50, 60)


def test_cmyk():
    red = Image.new("RGB", (8, 8), (200, 30, 40)).convert("CMYK")
    result = decode(encoded(red, "JPEG", quality=100), size=8)
    np.testing.assert_allclose(result[4, 4], (200, 30, 40), atol=6)


@pytest.mark.parametrize("shape", [(1, 1), (1, 4000), (4000, 1)])
def test_extreme_shapes(shape):
    result = decode(encoded(np.full((*shape, 3), 77, np.uint8)), size=12)
    np.testing.assert_array_equal(result, np.full((12, 12, 3), 77))


def png(width, height, pixels, *, depth=8, colour=2, key=None):
    def chunk(kind, content):
        body = kind + content
        return (
            struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = [chunk(b"IHDR", header), b"" if key is None else chunk(b"tRNS", key)]
    chunks += [chunk(b"IDAT", zlib.compress(pixels)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def png_header(width, height):
    return png(width, height, b"\0" * 99)


@pytest.mark.parametrize(
    ("depth", "colour", "row", "key", "shown"),
    [
        (16, 0, "12341334", "1234", (255, 19)),
        (16, 0, "12341235", "1234", (255, 18)),
        (16, 2, "051206120712051306120812", "051206120712", (255, 5)),
        (8, 0, "0506", "0005", (255, 6)),
        (8, 2, "050607050608", "000500060007", (255, 5)),
        (4, 0, "56", "0005", (255, 102)),
        (2, 0, "60", "0001", (255, 170)),
        (1, 0, "40", "0001", (0, 255)),
    ],
)
def test_a_transparent_grey_or_colour_is_laid_over_white(
    depth, colour, row, key, shown
):
    rows = 2 * (b"\0" + bytes.fromhex(row))
    data = png(2, 2, rows, depth=depth, colour=colour, key=bytes.fromhex(key))
    result = decode(data, size=2)
    np.testing.assert_array_equal(result[..., 0], [shown, shown])


@pytest.mark.fault
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"<!DOCTYPE html><html></html>", "not a JPEG, PNG or WebP"),
        (b"GIF89a" + bytes(40), "not a JPEG"),
        (encoded(photo(64, 64), "JPEG")[:400], "[Tt]runcated"),
        (encoded(photo(64, 64))[:200], "truncated|broken"),
        (encoded(photo(64, 64), "WEBP")[:200], "."),
        (b"\xff\xd8\xff" + bytes(100), "."),
        (png_header(9_500, 9_500), "9500 x 9500 pixels, the limit is 67108864"),
        (png_header(20_000, 10_000), "20000 x 10000 pixels"),
        (png_header(0, 5), "."),
    ],
)
def test_damaged_files_have_a_reason_of_one_line(data, reason):
    with pytest.raises(DecodeError, match=reason) as caught:
        decode(data, size=8)
    assert "\n" not in str(caught.value)


def test_random_damage_never_escapes_as_another_error():
    rng = np.random.default_rng(0)
    for kind in ("JPEG", "PNG", "WEBP"):
        sound = encoded(photo(40, 30), kind)
        for _ in range(60):
            data = bytearray(sound)
            for place in rng.integers(3, len(data), 4):
                data[place] = rng.integers(256)
            with contextlib.suppress(DecodeError):
                assert decode(bytes(data), size=8).shape == (8, 8, 3)


def test_machine_errors_are_not_taken_for_bad_files(tmp_path, monkeypatch):
    def too_many_files(*_):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(decoder, "open", too_many_files, raising=False)
    with pytest.raises(WorkerError, match=r"x\.png.*Too many open files"):
        read_image(tmp_path / "x.png", size=8)
    monkeypatch.undo()
    with pytest.raises(DecodeError, match="No such file"):
        read_image(tmp_path / "x.png", size=8)
    monkeypatch.setattr(decoder, "MAX_BYTES", 10)
    (tmp_path / "x.png").write_bytes(bytes(11))
    with pytest.raises(DecodeError, match="larger than 10 bytes"):
        read_image(tmp_path / "x.png", size=8)


def test_simplejpeg_is_used_for_the_jpegs_it_can_decode(monkeypatch):
    asked = []

    def decode_jpeg(data, colorspace, *, min_width, min_height):
        asked.append((colorspace, min_width, min_height))
        if len(asked) == 3:
            raise ValueError("damaged")
        return np.full((min_height, min_width, 3), 9, np.uint8)

    data = encoded(photo(100, 60), "JPEG")
    pillow = decode(data, size=20)
    fake = types.SimpleNamespace(decode_jpeg=decode_jpeg)
    monkeypatch.setattr(decoder, "_simplejpeg", lambda: fake)
    assert (decode(data, size=20) == 9).all()
    assert (decode(encoded(photo(9, 9)[..., 0], "JPEG"), size=20) == 9).all()
    np.testing.assert_array_equal(decode(data, size=20), pillow)
    assert asked == [("RGB", 50, 30), ("RGB", 9, 9), ("RGB", 50, 30)]
    decode(encoded(Image.new("CMYK", (8, 8)), "JPEG"), size=8)
    decode(encoded(photo(8, 8)), size=8)
    assert len(asked) == 3


def test_decode_speed(tmp_path, refused):
    assert decode_speed(size=16, seconds=0.01) > 0
    path = tmp_path / "a.png"
    path.write_bytes(encoded(photo(8, 8)))
    assert decode_speed(path, size=8, seconds=0.01) > 0
    path.write_bytes(b"")
    with refused("decode_speed", "a.png", "empty file"):
        decode_speed(path)
    with refused("none.png", "No such file"):
        decode_speed(tmp_path / "none.png")
