"""Vectors, sequences and pairs of an .npz file are records; images stay images."""

import numpy as np
import pytest

from rl_jax import data
from rl_jax.cli import main

N = 40
RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 3, N)


def saved(tmp_path, **arrays):
    path = tmp_path / "a.npz"
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int64, np.uint8])
def test_vectors_are_held_as_they_are(tmp_path, dtype):
    x = (RNG.normal(size=(N, 7)) * 9 + 40).astype(dtype)
    factors = RNG.normal(size=(N, 2))
    path = saved(tmp_path, x=x, u=LABELS, factors=factors, label=LABELS)
    source = data.npz(path)
    assert source.image_shape == ()
    assert list(source.fields) == ["image", "u", "factors"]
    assert source.fields["image"].dtype == np.float32
    np.testing.assert_array_equal(source.fields["image"], x.astype(np.float32))
    assert source.fields["u"].dtype == np.int32
    np.testing.assert_array_equal(source.fields["u"], LABELS)
    np.testing.assert_array_equal(source.fields["factors"], factors.astype("f4"))
    np.testing.assert_array_equal(source.labels, LABELS)
    np.save(tmp_path / "a.npy", x)
    alone = data.npz(tmp_path / "a.npy")
    assert list(alone.fields) == ["image"]
    np.testing.assert_array_equal(alone.fields["image"], source.fields["image"])


@pytest.mark.parametrize("shape", [(N, 12), (N, 12, 1), (N, 12, 3)])
def test_sequences_and_what_is_held_out(tmp_path, shape):
    sequence = RNG.normal(size=shape)
    path = saved(
        tmp_path,
        **{"sequence": sequence, "y": LABELS, "test_sequence": sequence[:9]},
        test_label=LABELS[:9],
    )
    source = data.npz(path)
    expected = sequence.reshape(N, 12, -1).astype(np.float32)
    np.testing.assert_array_equal(source.fields["sequence"], expected)
    assert source.held_out is not None
    np.testing.assert_array_equal(source.held_out.fields["sequence"], expected[:9])
    np.testing.assert_array_equal(source.held_out.labels, LABELS[:9])


def test_pairs(tmp_path):
    x = RNG.normal(size=(N, 5))
    source = data.npz(saved(tmp_path, image=x, pair=-x))
    np.testing.assert_array_equal(source.fields["pair"], -source.fields["image"])
    images = RNG.integers(0, 256, (N, 4, 4, 3)).astype(np.uint8)
    source = data.npz(saved(tmp_path, image=images, pair=images[::-1]))
    assert source.image_shape == ()
    found = source.fields["image"]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, images / 255, rtol=1e-6)
    np.testing.assert_array_equal(source.fields["pair"], found[::-1])
    grey = data.npz(saved(tmp_path, image=images[..., 0], pair=images[..., 1]))
    assert grey.fields["image"].shape == (N, 4, 4, 1)


def test_images_stay_images(tmp_path, caplog):
    images = RNG.integers(0, 256, (N, 4, 4, 3)).astype(np.uint8)
    source = data.npz(saved(tmp_path, image=images, u=LABELS, sequence=images))
    assert source.image_shape == (4, 4, 3)
    assert not source.fields
    assert "not used: sequence, u" in caplog.text


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"a": np.zeros(3)}, "or sequence, found a"),
        (
            {"x": np.zeros((4, 3)), "pair": np.zeros((4, 2))},
            r"pair must have the shape of the images, \(4, 3\), got \(4, 2\)",
        ),
        ({"sequence": np.zeros(4)}, r"sequence must be \[n, T, F\], got shape \(4,\)"),
        (
            {"x": np.zeros((4, 3)), "factors": np.zeros(4)},
            r"factors must be \[n, F\], got shape \(4,\)",
        ),
        ({"x": np.array([["a"], ["b"]])}, "image must be numbers, got <U1"),
        ({"x": np.full((4, 3), np.nan)}, "image must be finite in float32"),
        (
            {"x": np.zeros((4, 3)), "u": np.zeros(5, int)},
            "fields with a row for each example",
        ),
        (
            {"x": np.zeros((4, 3)), "u": np.zeros(4, int), "x_test": np.zeros((2, 3))},
            "has a held-out part without test_u",
        ),
        (
            {"x": np.zeros((4, 3)), "x_test": np.zeros((2, 2))},
            "held-out fields must be",
        ),
    ],
)
def test_what_fits_nothing_is_refused(tmp_path, refused, arrays, words):
    with refused(words):
        data.npz(saved(tmp_path, **arrays))


@pytest.mark.parametrize(
    ("words", "arrays"),
    [
        pytest.param(
            ["cpc", "--window", "3", "--horizon", "2"],
            ["sequence"],
            marks=pytest.mark.slow,
        ),
        (["ivae"], ["x", "u"]),
        pytest.param(["vae"], ["x"], marks=pytest.mark.slow),
        (["info_nce", "--positives", "paired"], ["image", "pair"]),
    ],
)
def test_methods_learn_from_them(tmp_path, capsys, words, arrays):
    shapes = {"sequence": (N, 24, 2), "u": None}
    made = {
        name: LABELS if name == "u" else RNG.normal(size=shapes.get(name, (N, 6)))
        for name in arrays
    }
    path = saved(tmp_path, **made)
    flags = ["--steps", "2", "--batch-size", "8", "--no-evaluate"]
    run = tmp_path / "run"
    main(["pretrain", *words, "--data", str(path), *flags, "--run-dir", str(run)])
    assert "step 2/2" in capsys.readouterr().out
    main(["embed", str(run), str(path), "-o", str(tmp_path / "h.npz")])
    with np.load(tmp_path / "h.npz") as found:
        assert len(found["h"]) == N
        assert np.isfinite(found["h"]).all()
