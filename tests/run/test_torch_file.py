"""A run that starts with the encoder of a file of PyTorch's, and embedding by one."""

import jax
import numpy as np
import pytest
from PIL import Image
from reference import assert_close, torch_encoders
from reference.torch_encoders import resnet_weights, vit_weights
from safetensors.numpy import save_file

from rl_jax import augment, networks, train
from rl_jax.augment import presets
from rl_jax.cli import main
from rl_jax.cli import recipe as commands
from rl_jax.errors import UsageError
from rl_jax.networks.resnet import STAGES
from rl_jax.run import datasets, embed, pretrain, torch_file, weights
from rl_jax.run import recipe as recipes
from rl_jax.run.init_from import InitFrom

SMALL = (1, 1, 1, 1)
ALONE = ("--steps", "1", "--no-probe")


def images(folder, *, side=8, channels=3):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (24, side, side, channels)).astype(np.uint8)
    path = folder / f"{side}x{channels}.npz"
    np.savez(path, image=image, label=np.arange(24) % 3)
    return path


def vit_file(folder, *, name="vit", **given):
    """Of one block, two by two pixels a patch, for images of six pixels."""
    tensors = vit_weights(**{"width": 64, "depth": 1} | given)
    path = folder / f"{name}.safetensors"
    save_file({f"module.{k}": v for k, v in tensors.items()}, path)
    return path


def resnet_file(folder, monkeypatch):
    monkeypatch.setitem(STAGES, 18, SMALL)
    tensors = resnet_weights(blocks=SMALL, bottleneck=False, stem=3)
    path = folder / "resnet.safetensors"
    save_file(tensors, path)
    return path


def asked(data, path, *more):
    """What a command says to train with the weights of a file."""
    words = ["supervised", "--data", str(data), "--init-from", str(path)]
    return commands.read("pretrain", [*words, *more, "--batch-size", "8"])


def first(found):
    """The first state, as a run has it, and where its weights are from."""
    parts = recipes.build(found.recipe, found.source)
    origin, given = weights.read(found.recipe, found.source)
    return pretrain.initial(found.recipe, parts, given)(), origin


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("side", [6, 8])
def test_a_transformer_starts_with_the_weights_its_positions_resized(tmp_path, side):
    path = vit_file(tmp_path, registers=2, scaled="ls{}.gamma")
    found = asked(images(tmp_path, side=side), path)
    assert found.recipe.init_from == InitFrom(str(path))
    encoder = found.recipe.networks["encoder"]
    assert encoder.factory == "vit"
    told = {k: encoder.arguments[k] for k in ("width", "depth", "heads", "patch")}
    assert told == {"width": 64, "depth": 1, "heads": 1, "patch": 2}
    assert encoder.arguments["registers"] == 2
    state, origin = first(found)
    assert origin.step is None
    assert len(origin.digest) == 64
    expected = dict(torch_file.read(path).params)
    if side == 8:
        table = networks.resize_positions(expected["positions"], (4, 4))
        expected["positions"] = np.asarray(table)
    same(jax.device_get(state.params["method"]["encoder"]), expected)
    again, twice = first(found)
    assert twice == origin
    assert train.fingerprint(again) == train.fingerprint(state)


def test_other_heads_can_be_given(tmp_path):
    """They are no weights, so that the file cannot tell them."""
    found = asked(images(tmp_path), vit_file(tmp_path), "--encoder.heads", "4")
    assert found.recipe.networks["encoder"].arguments["heads"] == 4
    _, given = weights.read(found.recipe, found.source)
    assert given.params["positions"].shape == (4, 4, 64)


def test_a_resnet_starts_with_weights_and_statistics(tmp_path, monkeypatch):
    path = resnet_file(tmp_path, monkeypatch)
    state, _ = first(asked(images(tmp_path), path))
    expected = torch_file.read(path)
    same(jax.device_get(state.params["method"]["encoder"]), expected.params)
    same(jax.device_get(state.state["encoder"]), expected.state)


def test_weights_that_have_changed_are_refused(tmp_path, monkeypatch):
    """As are those that are gone; the same ones are read again."""
    path = vit_file(tmp_path)
    found = asked(images(tmp_path), path, *ALONE)
    run = tmp_path / "run"
    with monkeypatch.context() as m:
        m.setattr(pretrain, "_train", lambda *a, **k: None)
        pretrain.start(found.recipe, found.source, run, command="")
    recipe, _ = recipes.read(run / "run.json")
    origin, given = weights.read(recipe, found.source)
    assert recipe.init_from == origin
    assert (origin.run, origin.step, len(origin.digest)) == (str(path), None, 64)
    expected, _ = torch_file.fitted(torch_file.read(path), given.params)
    same(jax.device_get(given.params), expected)
    vit_file(tmp_path, seed=1)
    with pytest.raises(UsageError, match="it has changed since this run was") as error:
        pretrain.resume(run)
    assert "\n" not in str(error.value)
    path.unlink()
    with pytest.raises(UsageError, match="vit.safetensors: there is no such file"):
        pretrain.resume(run)
    assert not (run / "checkpoints").exists()


@pytest.mark.slow
def test_a_run_goes_on_without_the_file(tmp_path):
    path = vit_file(tmp_path)
    found = asked(images(tmp_path), path, *ALONE)
    run = tmp_path / "run"
    expected = pretrain.start(found.recipe, found.source, run, command="")
    path.unlink()
    assert train.fingerprint(pretrain.resume(run)) == train.fingerprint(expected)


def refused(capsys, *words):
    """The line that the command ends with."""
    with pytest.raises(SystemExit) as stopped:
        main([str(w) for w in words])
    assert stopped.value.code == UsageError.exit_code
    said = capsys.readouterr().err.strip()
    assert "\n" not in said
    return said


def test_what_is_no_file_of_weights_is_refused_in_one_line(tmp_path, capsys):
    data, run = images(tmp_path), tmp_path / "run"
    pth, junk = tmp_path / "a.pth", tmp_path / "junk.safetensors"
    pth.write_bytes(b"\x80\x02}q\x00.")
    junk.write_bytes(b"no header" * 9)
    save_file({"a": np.zeros(2)}, other := tmp_path / "other.safetensors")
    none = tmp_path / "none.safetensors"
    for path, words in (
        (pth, "files of .safetensors, which run no code; PyTorch makes one of its own"),
        (none, "none.safetensors: there is no such file"),
        (data, "expected the folder of a run, or weights in a file of .safetensors"),
        (tmp_path / "none.pt", "none.pt: there is no such file"),
        (junk, "junk.safetensors: not read: "),
        (other, "other.safetensors: from_torch: these are names of no vision tran"),
    ):
        told = ("--data", data, "--init-from", path, "--run-dir", run)
        assert f"--init-from {path}" in refused(capsys, "pretrain", "simclr", *told)
        assert words in refused(capsys, "pretrain", "simclr", *told)
        said = refused(capsys, "embed", path, data, "-o", tmp_path / "out.npz")
        assert words in said
        assert "--init-from" not in said
    assert not run.exists()
    assert not (tmp_path / "out.npz").exists()


def test_an_encoder_that_does_not_fit_is_refused_in_one_line(tmp_path, capsys):
    path, run = vit_file(tmp_path), tmp_path / "run"
    colour, grey = images(tmp_path), images(tmp_path, channels=1)
    for data, more, words in (
        (colour, ("--encoder", "resnet"), "its encoder is vit, here it is resnet; use"),
        (
            colour,
            ("--encoder.width", "32"),
            "does not fit: width is 64 there, 32",
        ),
        (grey, (), "does not fit: embed/kernel is float32[12, 64] there, float32[4"),
    ):
        told = ("--data", data, "--init-from", path, "--run-dir", run, *more)
        said = refused(capsys, "pretrain", "supervised", *told)
        assert f"--init-from {path}: " in said
        assert words in said
    assert not run.exists()


def embedded(folder, path, data, **options):
    output = folder / "found.npz"
    assert embed.embed_by_file(path, str(data), output, **options) == output
    with np.load(output) as found:
        return dict(found)


@pytest.mark.parametrize(("size", "heads"), [(None, None), (8, None), (None, 2)])
def test_what_a_file_embeds_is_what_its_network_gives(tmp_path, size, heads):
    path = vit_file(tmp_path, registers=1)
    data = images(tmp_path, side=10)
    found = embedded(tmp_path, path, data, size=size, heads=heads)
    side = size or 6
    source = datasets.build(datasets.spec_of(str(data)))
    clean = augment.imagenet(size=side).clean(source.images)
    tensors = vit_weights(width=64, depth=1, registers=1)
    if size:
        # The reference has no grid: its rows are.
        rows = tensors["pos_embed"][0]
        table = networks.resize_positions(rows[1:].reshape(3, 3, 64), (4, 4))
        rows = np.concatenate([rows[:1], np.asarray(table).reshape(16, 64)])
        tensors["pos_embed"] = rows[None]
    expected = torch_encoders.vit(tensors, clean, heads=heads or 1)[:, 0]
    assert_close(found["h"], expected, tolerance=1e-5)
    np.testing.assert_array_equal(found["label"], np.arange(24) % 3)
    np.testing.assert_array_equal(found["index"], np.arange(24))
    assert found["layer1"].shape == (24, 64)
    assert "z" not in found


def test_a_resnet_embeds_a_folder_of_images(tmp_path, monkeypatch):
    path = resnet_file(tmp_path, monkeypatch)
    for k in range(3):
        (tmp_path / "photos" / "ab"[k % 2]).mkdir(parents=True, exist_ok=True)
        shade = Image.new("RGB", (16, 16), (80 * k, 20, 200))
        shade.save(tmp_path / "photos" / "ab"[k % 2] / f"{k}.png")
    found = embedded(tmp_path, path, tmp_path / "photos", size=7)
    tensors = resnet_weights(blocks=SMALL, bottleneck=False, stem=3)
    # In the order of their paths.
    colours = np.uint8([[80 * k, 20, 200] for k in (0, 2, 1)])
    same_everywhere = np.broadcast_to(colours[:, None, None], (3, 7, 7, 3))
    clean = augment.imagenet(size=7).clean(same_everywhere)
    assert_close(found["h"], torch_encoders.resnet(tensors, clean), tolerance=1e-5)
    assert found["path"].tolist() == ["a/0.png", "a/2.png", "b/1.png"]


def test_what_a_file_cannot_embed_is_refused_in_one_line(tmp_path, capsys):
    path, output = vit_file(tmp_path), tmp_path / "out.npz"
    colour, grey = images(tmp_path), images(tmp_path, channels=1)
    for data, more, words in (
        (colour, ("--size", 7), "a multiple of the patches' 2 pixels, got 7"),
        (colour, ("--size", 0), "a multiple of the patches' 2 pixels, got 0"),
        (colour, ("--size", -2), "a multiple of the patches' 2 pixels, got -2"),
        (grey, (), "is of images [H, W, 3], got (8, 8, 1) from"),
        ("topics", (), "topics"),
    ):
        said = refused(capsys, "embed", path, data, "-o", output, *more)
        assert words in said
    run = tmp_path / "run"
    said = refused(capsys, "embed", run, colour, "-o", output, "--size", 8)
    assert f"--size is of encoders from a file; the encoder of {run} is as" in said
    said = refused(capsys, "embed", run, colour, "-o", output, "--heads", 2)
    assert f"--heads is of encoders from a file; the encoder of {run} is as" in said
    said = refused(capsys, "embed", path, colour, "-o", output, "--heads", 3)
    assert "heads must divide the width, got heads=3 and width=64" in said
    said = refused(capsys, "embed", path, colour, "-o", tmp_path / "out.txt")
    assert "must end in .npz" in said
    assert not output.exists()


def test_weights_of_a_network_with_parts_missing_never_reach_it(tmp_path, capsys):
    tensors = vit_weights(width=64, depth=1)
    del tensors["blocks.0.attn.proj.bias"]
    save_file(tensors, path := tmp_path / "part.safetensors")
    said = refused(capsys, "embed", path, images(tmp_path), "-o", tmp_path / "o.npz")
    assert "there is no blocks.0.attn.proj.bias, which its encoder needs" in said


def test_images_are_standardised_as_the_weights_learned(tmp_path):
    """Small ones, too, whose own preset has the numbers of CIFAR."""
    data = images(tmp_path, side=8)
    words = ["supervised", "--data", str(data), "--batch-size", "8"]
    path = vit_file(tmp_path)
    for more, mean in (
        ([], presets.CIFAR_MEAN),
        (["--init-from", str(path)], presets.IMAGENET_MEAN),
    ):
        asked = commands.read("pretrain", [*words, *more])
        assert asked.recipe.augment.arguments["mean"] == mean
        clean = recipes.build_augment(asked.recipe.augment).clean
        grey = clean(np.full((1, 8, 8, 3), 0.5, np.float32))[0, 0, 0]
        std = asked.recipe.augment.arguments["std"]
        expected = (0.5 - np.array(mean)) / np.array(std)
        np.testing.assert_allclose(grey, expected, rtol=1e-5)


def test_the_weights_are_read_no_oftener_than_they_are_used(tmp_path, monkeypatch):
    """Of what kind the encoder is, asked for at every turn, is read once a file."""
    path, read = vit_file(tmp_path), []
    whole = torch_file.read
    monkeypatch.setattr(torch_file, "read", lambda p: (read.append(p), whole(p))[1])
    first = [weights.encoder_of(path) for _ in range(3)]
    assert read == [path]
    assert first[0].arguments["depth"] == 1
    vit_file(tmp_path, depth=2)
    assert weights.encoder_of(path).arguments["depth"] == 2
    assert len(read) == 2
