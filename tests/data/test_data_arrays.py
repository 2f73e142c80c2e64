"""NumPy arrays and .npz files as sources, hostile ones among them."""

import io
import pickle
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest

from rl_jax.data import arrays, npz, records

IMAGES = np.arange(5 * 4 * 3 * 3, dtype=np.uint8).reshape(5, 4, 3, 3)
LABELS = np.array([0, 2, -1, 1, 0])


def test_uint8_images_and_labels():
    source = arrays(IMAGES, LABELS, name="mine")
    assert (source.name, source.size, source.image_shape) == ("mine", 5, (4, 3, 3))
    np.testing.assert_array_equal(source.load(2), IMAGES[2])
    np.testing.assert_array_equal(source.labels, LABELS)
    assert source.labels.dtype == np.int32
    assert source.class_names == ("0", "1", "2")
    assert not source.load(0).flags.writeable


def test_grey_images_get_a_channel():
    assert arrays(IMAGES[..., 0]).image_shape == (4, 3, 1)
    assert arrays(IMAGES[..., 0]).labels is None


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.int4, jnp.uint4])
def test_dtypes_of_jax(dtype):
    values = np.array([[0, 1], [1, 0]])
    given = jnp.asarray(values, dtype)
    if dtype == jnp.bfloat16:
        images = arrays(given[None] / 2).images
        np.testing.assert_array_equal(images[0, ..., 0], values * 128)
    else:
        np.testing.assert_array_equal(arrays(IMAGES[:2], given[0]).labels, [0, 1])
    held = records({"x": given}).fields["x"]
    assert held.dtype == (np.float32 if dtype == jnp.bfloat16 else np.int32)
    np.testing.assert_array_equal(held, values)


def test_binary_uint8_is_told(caplog):
    binary = IMAGES % 2
    arrays(binary * 255)
    arrays(binary.astype(np.float32))
    arrays(binary * 0)
    assert not caplog.messages
    arrays(binary, name="mine")
    (message,) = caplog.messages
    assert message.startswith("mine: the images look binary")
    assert "multiply them by 255 or pass floats" in message


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_are_rounded(dtype):
    values = (np.arange(256) / 255).astype(dtype)
    images = arrays(values.reshape(1, 16, 16)).images
    np.testing.assert_array_equal(images.ravel(), np.arange(256))


def test_floats_of_more_than_8_bits_are_told(caplog):
    levels = np.arange(256).reshape(1, 16, 16) / 255
    for dtype in (np.float16, np.float32, np.float64):
        arrays(levels.astype(dtype))
    assert not caplog.messages
    arrays(np.arange(2**10).reshape(1, 32, 32) / (2**10 - 1), name="deep")
    (message,) = caplog.messages
    assert message.startswith(
        "deep: the float64 images have more than 8 bits, of which"
    )


@pytest.mark.parametrize("low", [-0.01, np.nan])
def test_floats_out_of_range(refused, low):
    with refused("mine", r"\[0, 1\]", "divide by 255"):
        arrays(np.full((2, 3, 3), low), name="mine")
    with refused(r"got \[0, 255\]"):
        arrays(IMAGES.astype(np.float32) * 0 + np.float32([0, 255, 0]))


def test_wrong_images(refused):
    with refused("uint8", "got int64"):
        arrays(IMAGES.astype(np.int64))
    with refused("uint8", "got object"):
        arrays(np.full((2, 3, 3), None))
    with refused("uint8", r"got bool; use images\.astype\(np\.float32\)$"):
        arrays(IMAGES > 3)
    with refused("uint8", r"got complex64$"):
        arrays(IMAGES.astype(np.complex64))
    with refused(r"floating-point images must be in \[0, 1\], got \[0, 2\]"):
        arrays(2 * jnp.asarray(IMAGES[:, :2] % 2, jnp.bfloat16))
    with refused(r"\[n, H, W\]", r"got shape \(3, 4\)"):
        arrays(np.zeros((3, 4), np.uint8))
    with refused("not empty", r"got shape \(0, 4, 3, 3\)"):
        arrays(IMAGES[:0])
    with refused("channels last", r"\(2, 3, 32, 32\)", "transpose"):
        arrays(np.zeros((2, 3, 32, 32), np.uint8))


def test_wrong_labels(refused):
    with refused("labels must be integers, got float64"):
        arrays(IMAGES, LABELS * 1.0)
    with refused(r"shape \(5,\)", r"got \(4,\)"):
        arrays(IMAGES, LABELS[:4])
    with refused(r"got \(5, 1\)"):
        arrays(IMAGES, LABELS[:, None])
    with refused(r"labels must be in \[-1, ", r"got \[-2, 1\]"):
        arrays(IMAGES, LABELS - 1)
    with refused("1048576"):
        arrays(IMAGES, LABELS + 2**20)
    with refused("2 class names for labels up to 2"):
        arrays(IMAGES, LABELS, class_names=["a", "b"])


def test_held_out_must_match(refused):
    with refused("held-out", r"\(4, 3, 3\)", r"got \(4, 3, 1\)"):
        arrays(IMAGES, held_out=arrays(IMAGES[..., 0]))
    wide = arrays(IMAGES, LABELS + 1)
    assert len(arrays(IMAGES, LABELS, held_out=wide).class_names) == 4


@pytest.mark.parametrize("images", ["images", "image", "x", "x_train"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path, images, save):
    labels = {"images": "labels", "image": "label", "x": "y", "x_train": "y_train"}
    save(tmp_path / "a.npz", **{images: IMAGES, labels[images]: LABELS})
    source = npz(tmp_path / "a.npz")
    np.testing.assert_array_equal(source.images, IMAGES)
    np.testing.assert_array_equal(source.labels, LABELS)
    assert source.held_out is None
    assert source.name == "a.npz"


def test_npz_with_held_out_part(tmp_path):
    np.savez(
        tmp_path / "a.npz", x=IMAGES, test_images=IMAGES[:2], test_labels=LABELS[:2]
    )
    source = npz(tmp_path / "a.npz")
    assert source.labels is None
    np.testing.assert_array_equal(source.held_out.images, IMAGES[:2])
    np.testing.assert_array_equal(source.held_out.labels, [0, 2])


def test_npy(tmp_path):
    np.save(tmp_path / "a b ü.npy", np.asfortranarray(IMAGES))
    np.testing.assert_array_equal(npz(tmp_path / "a b ü.npy").images, IMAGES)


@pytest.mark.parametrize("unused", ["targets", "y_test", "x_train", "a\nb"])
def test_npz_tells_what_it_does_not_use(tmp_path, unused, caplog):
    np.savez(tmp_path / "a.npz", images=IMAGES, labels=LABELS, **{unused: LABELS})
    assert npz(tmp_path / "a.npz").held_out is None
    (message,) = caplog.messages
    shown = unused.replace("\n", "\\n")
    assert f"a.npz': not used: {shown}; images are read from images," in message
    assert "labels from labels, label, y or y_train, a held-out part" in message
    ends = "test_images, test_image or x_test with test_labels, test_label or y_test"
    assert message.endswith(ends)
    assert "\n" not in message


def test_npz_of_known_keys_is_read_without_a_word(tmp_path, caplog):
    known = {"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES, "y_test": LABELS}
    np.savez(tmp_path / "a.npz", **known)
    npz(tmp_path / "a.npz")
    assert not caplog.messages


def test_npy_has_no_bfloat16(tmp_path, refused):
    np.save(tmp_path / "a.npy", np.asarray(jnp.zeros((2, 3, 3), jnp.bfloat16)))
    with refused(r"got \|V2; a file keeps no bfloat16: save float32"):
        npz(tmp_path / "a.npy")


def test_npz_names_the_keys_it_found(tmp_path, refused):
    np.savez(tmp_path / "a.npz", pictures=IMAGES, targets=LABELS)
    with refused("a.npz", "images, image, x", "found pictures, targets"):
        npz(tmp_path / "a.npz")


def test_npz_path(tmp_path, refused):
    with refused("none.npz", "No such file"):
        npz(tmp_path / "none.npz")
    with refused("directory"):
        npz(tmp_path)
    (tmp_path / "empty.npz").touch()
    with refused("empty.npz", "neither an .npz nor an .npy"):
        npz(tmp_path / "empty.npz")


class _Payload:
    def __reduce__(self):
        return (pytest.fail, ("unpickled",))


@pytest.mark.fault
def test_nothing_is_unpickled(tmp_path, refused):
    evil = np.array([_Payload()], dtype=object)
    np.save(tmp_path / "a.npy", evil, allow_pickle=True)
    with refused("a.npy", "pickled objects"):
        npz(tmp_path / "a.npy")
    np.savez(tmp_path / "a.npz", images=evil)
    with refused(r"\['images'\]", "pickled objects"):
        npz(tmp_path / "a.npz")
    (tmp_path / "b.npy").write_bytes(pickle.dumps(_Payload()))
    with refused("neither"):
        npz(tmp_path / "b.npy")


@pytest.mark.fault
def test_bombs_are_refused_before_reading(tmp_path, refused, monkeypatch):
    bomb = np.zeros((1200, 300, 300), np.uint8)  # 108 MB in 0.1 MB
    np.savez_compressed(tmp_path / "bomb.npz", images=bomb)
    np.savez(tmp_path / "a.npz", images=IMAGES)
    np.save(tmp_path / "a.npy", IMAGES)
    monkeypatch.delattr(np.lib.format, "read_array")
    with refused("108,000,[0-9]{3} bytes", "ratio"):
        npz(tmp_path / "bomb.npz")
    with refused("limit_bytes is 100"):
        npz(tmp_path / "a.npz", limit_bytes=100)
    with refused("180 bytes", "limit_bytes is 100"):
        npz(tmp_path / "a.npy", limit_bytes=100)


@pytest.mark.fault
@pytest.mark.parametrize("shape", ["(9, 4, 3, 3)", "(10**15,)", "(-5, 4, 3, 3)", "x"])
def test_false_header(tmp_path, refused, shape):
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}}}\n"
    head = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
    (tmp_path / "a.npy").write_bytes(head + IMAGES.tobytes())
    with refused("a.npy"):
        npz(tmp_path / "a.npy")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("images.npy", head + IMAGES.tobytes())
    with refused("a.npz"):
        npz(tmp_path / "a.npz")


@pytest.mark.fault
def test_damaged_files(tmp_path, refused):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, images=IMAGES)
    content = bytearray(buffer.getvalue())
    (tmp_path / "cut.npz").write_bytes(content[: len(content) // 2])
    with refused("cut.npz", "damaged"):
        npz(tmp_path / "cut.npz")
    content[len(content) // 3] ^= 0x55
    (tmp_path / "flip.npz").write_bytes(content)
    with refused("flip.npz", "damaged"):
        npz(tmp_path / "flip.npz")
    np.save(tmp_path / "cut.npy", IMAGES)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "cut.npy").read_bytes()[:-1])
    with refused("promises 180 bytes", "holds 179"):
        npz(tmp_path / "cut.npy")


def test_what_is_no_array(refused):
    with refused("mine: images are no array"):
        arrays([[1, 2], [3]], name="mine")
    with refused("mine: labels are no array"):
        arrays(IMAGES, [[1, 2], [3]], name="mine")
    with refused("records: x are no array"):
        records({"x": [[1, 2], [3]]})
    days = np.zeros(len(IMAGES), "timedelta64[D]")
    with refused(r"labels must be integers, got timedelta64"):
        arrays(IMAGES, days)
    with refused(r"x must be in \[-2\^31, 2\^31\), got -1099511627776 .. 5"):
        records({"x": np.array([[-(2**40), 5]])})


def test_floats_just_out_of_range_are_told_as_they_are(refused):
    with refused(r"got \[0, 1.00000012\]"):
        arrays(np.array([[[0, np.nextafter(np.float32(1), 2)]]], np.float32))


@pytest.mark.fault
def test_a_damaged_archive_of_another_compression(tmp_path, refused):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        held = io.BytesIO()
        np.save(held, np.random.default_rng(0).integers(0, 256, (9, 8, 8), np.uint8))
        archive.writestr("images.npy", held.getvalue())
    content = bytearray(path.read_bytes())
    content[120:160] = bytes(40)
    path.write_bytes(content)
    with refused("is a damaged .npz file|is damaged"):
        npz(path)
