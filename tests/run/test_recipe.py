"""A recipe survives JSON, and rebuilds what it describes."""

import inspect
import itertools
import json
import os

import jax
import numpy as np
import pytest
from PIL import Image

from rl_jax import data, methods, networks, train
from rl_jax.augment import presets as augmentations
from rl_jax.cli import recipe as commands
from rl_jax.errors import UsageError
from rl_jax.run import datasets, presets
from rl_jax.run import recipe as recipes


def recipe(**changes):
    base = recipes.Recipe(
        data=recipes.resolve(data.digits),
        augment=recipes.resolve(augmentations.digits, noise=0.3),
        networks={
            "encoder": recipes.resolve(networks.mlp, features=(8, 4), out=4),
            "projector": recipes.resolve(networks.projection_head, hidden=4, out=3),
        },
        method=recipes.Spec("simclr", {"temperature": 0.2}),
        optimizer=recipes.resolve(train.sgd, total_steps=5, batch_size=16),
        steps=5,
        batch_size=16,
        seed=3,
        probe=True,
        log_every=1,
        checkpoint_every=2,
    )
    return base._replace(**changes)


def test_round_trip(tmp_path):
    recipes.write(recipe(), tmp_path / "run.json", command="rl-jax pretrain simclr")
    found, notes = recipes.read(tmp_path / "run.json")
    assert found == recipe()
    assert notes["command"] == "rl-jax pretrain simclr"
    assert found.networks["encoder"].arguments["features"] == (8, 4)
    assert found.augment.arguments["scale"] == (0.85, 1.15)


def test_builds_what_it_says():
    source = data.digits()
    parts = recipes.build(recipe(), source)
    batch = {
        "index": np.arange(4, dtype=np.int32),
        "image": source.images[:4],
        "label": np.zeros(4, np.int32),
    }
    batch = jax.eval_shape(parts.augment.views, jax.random.key(0), batch)
    params, _ = jax.eval_shape(parts.method.init, jax.random.key(0), batch)
    assert set(params) == {"method", "probe"}
    assert params["probe"]["kernel"].shape == (4, 10)
    plain = recipes.build(recipe(probe=False), source)
    params, _ = jax.eval_shape(plain.method.init, jax.random.key(0), batch)
    assert set(params) == {"encoder", "projector"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": recipes.Spec("os.system", {})}, "unknown method 'os.system'"),
        (
            {"networks": {"encoder": recipes.Spec("__import__", {})}},
            "unknown encoder '__import__'",
        ),
        (
            {"networks": {"encoder": recipes.Spec("mlp", {"layers": 3})}},
            "mlp: got an unexpected keyword argument 'layers'; use the version",
        ),
        (
            {"method": recipes.Spec("byol", {"total_steps": 5})},
            "byol: the recipe has no predictor",
        ),
    ],
)
def test_only_known_factories_and_arguments_are_called(changes, message):
    with pytest.raises(UsageError, match=message):
        recipes.build(recipe(**changes), data.digits())


def test_presets_follow_the_data():
    assert presets.for_data("digits", (8, 8, 1)).networks["encoder"] == "convnet"
    found = presets.for_data("npz", (32, 32, 3))
    assert found.arguments["encoder"]["stem"] == "cifar"
    assert found.arguments["augment"]["size"] == 32
    found = presets.for_data("folder", (96, 96, 3))
    assert found.arguments["encoder"]["depth"] == 50
    assert found.arguments["augment"]["size"] == 84


def test_a_short_run_warms_up_for_a_tenth_of_it():
    preset = presets.for_steps(presets.small_images(), 100)
    assert preset.arguments["optimizer"]["warmup_steps"] == 10
    preset = presets.for_steps(presets.small_images(), 20_000)
    assert preset.arguments["optimizer"]["warmup_steps"] == 500


@pytest.mark.parametrize("side", [32, 224])
def test_a_short_run_of_vicreg_has_bounded_gradients(side):
    """Its published warm-up is what keeps biases finite under LARS."""
    preset = presets.for_method(presets.for_data("npz", (side, side, 3)), "vicreg")
    warm = preset.arguments["optimizer"]["warmup_steps"]
    for steps, bound in ((10 * warm, None), (10 * warm - 10, 10.0), (50, 10.0)):
        found = presets.for_steps(preset, steps).arguments["optimizer"]
        assert found.get("clip_norm") == bound
    other = presets.for_method(presets.for_data("npz", (side, side, 3)), "simclr")
    assert "clip_norm" not in presets.for_steps(other, 50).arguments["optimizer"]


@pytest.mark.parametrize("method", ["swav", "dino", "ibot", "dino_v2"])
def test_a_short_run_trains_its_prototypes(method):
    preset = presets.for_method(presets.photographs(), method)
    assert presets.for_steps(preset, 1_000_000) == preset._replace(steps=1_000_000)
    short = presets.for_steps(preset, 1000).arguments
    assert short[method]["frozen_steps"] == 50
    assert short["optimizer"]["warmup_steps"] == 100
    assert short[method].get("queue_from", 0) <= 80


@pytest.mark.parametrize(
    ("method", "there", "here"),
    [
        ("supervised", "all", "cls"),
        ("simclr", "none", "mean"),
        ("supervised", "cls", "cls"),
        ("dino_v2", "all", "all"),
        ("ibot", "cls", "all"),
        ("simmim", "none", "none"),
    ],
)
def test_an_encoder_of_tokens_gives_what_the_method_takes(method, there, here):
    preset = presets.for_method(presets.digits(), method)
    encoder = recipes.Spec("vit", {"patch": 2, "pool": there})
    found = presets.for_encoder(preset, encoder)
    assert found.networks["encoder"] == "vit"
    assert found.arguments["encoder"] == {"patch": 2, "pool": here}


def asked(method, shape, encoder, *, trained=False, **more):
    preset = presets.for_method(presets.for_data("folder", shape), method)
    return presets.for_network(preset, method, encoder, trained=trained, **more)


def test_a_transformer_in_the_place_of_another_encoder():
    """AdamW, where LARS or SGD were for the other; crops that its patches divide."""
    for method in ("simclr", "simsiam", "swav", "supervised"):
        small, large = (
            asked(method, shape, "vit") for shape in ((32, 32, 3), (224, 224, 3))
        )
        for found, patch, size in ((small, 4, "Ti"), (large, 16, "S")):
            assert found.networks["encoder"] == "vit"
            encoder, augment = (found.arguments[k] for k in ("encoder", "augment"))
            assert (encoder["patch"], encoder["size"]) == (patch, size)
            assert "depth" not in encoder
            assert augment["size"] % patch == augment.get("local_size", 0) % patch == 0
            assert found.optimizer == "adamw"
            assert "form" not in found.arguments["optimizer"]
        # Of its own augmentation what is not a size stays.
        usual = asked(method, (224, 224, 3), "resnet").arguments["augment"]
        kept = {k: v for k, v in usual.items() if "size" not in k}
        assert kept.items() <= large.arguments["augment"].items()
    assert large.arguments["supervised"]["mixup"] == 0.8
    # Frozen by its authors alone.
    rates = [
        asked(method, (224, 224, 3), "vit").arguments["optimizer"].get("embed_rate")
        for method in ("moco_v3", "simclr")
    ]
    assert rates == [0.0, None]


@pytest.mark.parametrize("method", ["jigsaw", "context", "simclr", "dino"])
@pytest.mark.parametrize("side", [30, 96])
def test_a_transformer_is_given_whole_patches(method, side, tmp_path):
    """Of crops, of tiles and of parts; also of another size, and of trained weights."""
    image = np.zeros((16, side, side, 3), np.uint8)
    np.savez(tmp_path / "data.npz", image=image)
    for more in ([], ["--encoder.patch", "5"]):
        told = commands.read(
            "pretrain",
            [method, "--data", str(tmp_path / "data.npz"), "--encoder", "vit",
             "--encoder.depth", "1", "--batch-size", "4", *more],
        )  # fmt: skip
        parts = recipes.build(told.recipe, told.source)
        batch = {"image": image[:4], "index": np.arange(4, dtype=np.int32)}

        def step(rng, batch, parts=parts):
            batch = parts.augment.views(rng, batch)
            params, state = parts.method.init(rng, batch)
            return parts.method.loss(params, state, batch, rng)[0]

        assert jax.eval_shape(step, jax.random.key(0), batch).shape == ()
    assert told.recipe.networks["encoder"].arguments["patch"] == 5


def test_crops_are_those_of_trained_weights():
    """Patches of 14, as DINOv2 has, in place of the preset's 4 and 16."""
    for side, size in ((32, 28), (224, 196)):
        found = asked("supervised", (side, side, 3), "vit", trained=True, patch=14)
        assert found.arguments["augment"]["size"] == size


def test_a_method_with_its_own_settings_of_adamw_keeps_them():
    usual = asked("clip", (224, 224, 3), "resnet").arguments["optimizer"]
    assert asked("clip", (224, 224, 3), "vit").arguments["optimizer"] == usual
    mae = asked("mae", (224, 224, 3), "vit")
    assert mae == presets.for_method(presets.photographs(224), "mae")


def test_losses_in_the_units_of_the_image_are_minimised_by_adam():
    """By LARS biases follow gradients of thousands, and soon nothing is finite."""
    of_images = [f.__name__ for f in recipes.METHODS if "decoder" in recipes.roles(f)]
    of_images.remove("ivae")  # of vectors
    assert {"vae", "autoencoder", "mae"} <= {*of_images}
    for shape in ((8, 8, 1), (32, 32, 3), (224, 224, 3)):
        preset = presets.for_data("folder", shape)
        for method in of_images:
            assert presets.for_method(preset, method).optimizer == "adamw", method


@pytest.mark.parametrize("method", ["supervised", "simclr"])
def test_a_trained_encoder_is_tuned(method):
    """Of a transformer by depth, of a ResNet gently; methods without labels as ever."""
    for encoder in ("vit", "resnet"):
        found, usual = (
            asked(method, (32, 32, 3), encoder, trained=trained)
            for trained in (True, False)
        )
        if method == "simclr":
            assert found == usual
            continue
        rates = [x.arguments["optimizer"]["learning_rate"] for x in (found, usual)]
        if encoder == "vit":
            assert found.arguments["optimizer"]["layer_decay"] == 0.75
            assert "layer_decay" not in usual.arguments["optimizer"]
            before = recipes.Spec("vit", {"patch": 4, "drop_path": 0.0, "pool": "none"})
            again = presets.for_encoder(found, before).arguments["encoder"]
            assert again == {"patch": 4, "drop_path": 0.1, "pool": "mean"}
        else:
            assert rates == [0.05, 0.1]
            assert found.arguments["optimizer"]["weight_decay"] == 0


@pytest.mark.parametrize("trained", [False, True])
def test_only_a_transformer_with_labels_has_operations_and_erasing(trained):
    """As DeiT and the tuning of MAE; on digits nothing is published."""
    for shape in ((32, 32, 3), (224, 224, 3)):
        for method, encoder in itertools.product(
            ("supervised", "simclr"), ("vit", "resnet")
        ):
            found = asked(method, shape, encoder, trained=trained).arguments
            own = found["augment"].keys() & {"rand_augment", "erasing"}
            if (method, encoder) == ("supervised", "vit"):
                assert found["augment"]["rand_augment"] == 9
                assert found["augment"]["erasing"] == 0.25
                assert found["augment"]["num_views"] == 1
            else:
                assert not own
    digits = presets.for_method(presets.digits(), "supervised")
    digits = presets.for_network(digits, "supervised", "vit", trained=trained)
    assert digits.augment == "digits"
    assert digits.arguments["augment"].keys() == {"rotate", "shear", "num_views"}


def test_operations_and_erasing_are_flags(tmp_path):
    image = np.zeros((16, 32, 32, 3), np.uint8)
    path = str(tmp_path / "data.npz")
    np.savez(path, image=image, label=np.arange(16) % 2)
    words = ["supervised", "--data", path, "--encoder", "vit"]
    for more, expected in (
        ([], (9.0, 0.25)),
        (["--augment.rand-augment", "5"], (5.0, 0.25)),
        (["--augment.rand-augment", "0", "--augment.erasing", "0"], (0.0, 0.0)),
    ):
        told = commands.read("pretrain", [*words, *more]).recipe
        recipes.write(told, tmp_path / "run.json")
        again, _ = recipes.read(tmp_path / "run.json")
        given = again.augment.arguments
        assert (given["rand_augment"], given["erasing"]) == expected
    plain = commands.read("pretrain", [*words, "--augment", "plain"]).recipe
    assert "erasing" not in plain.augment.arguments
    # One of before there were any is what it was.
    without = {k: v for k, v in given.items() if k not in ("rand_augment", "erasing")}
    assert again.augment.given(**without) == again.augment
    assert recipes.build_augment(recipes.Spec("cifar", without)).unit_range


def test_a_batch_is_at_most_all_there_are():
    preset = presets.small_images()
    assert presets.for_size(preset, 512).batch_size == 512
    sizes = [presets.for_size(preset, n).batch_size for n in (511, 40, 32, 1)]
    assert sizes == [256, 32, 32, 1]


@pytest.mark.parametrize("side", [8, 15, 32, 50, 64, 65, 100, 224])
def test_images_are_cut_into_whole_tiles_and_patches(side):
    preset = presets.for_data("folder", (side, side, 3))
    assert presets.for_method(preset, "jigsaw").arguments["augment"]["size"] % 3 == 0
    for method in ("mae", "simmim", "i_jepa", "ibot", "dino_v2"):
        given = presets.for_method(preset, method).arguments
        assert given["augment"]["size"] % given["encoder"]["patch"] == 0
        assert given["augment"]["size"] // given["encoder"]["patch"] >= 3


def test_images_are_decoded_to_no_more_pixels_than_they_have(tmp_path):
    for k, shape in enumerate([(300, 400), (48, 64), (48, 70), (30, 50)]):
        Image.new("L", shape[::-1]).save(tmp_path / f"{k}.png")
    factory, decided = datasets.chosen(str(tmp_path), "images")
    assert datasets.usual(factory, decided) == {"size": 48}
    os.mkfifo(tmp_path / "0.pipe.png")
    (tmp_path / "0.png").rename(tmp_path / "4.jpg.txt")
    (tmp_path / "1.png").write_bytes(b"no image")
    assert datasets.usual(factory, decided) == {"size": 48}
    large = tmp_path / "large"
    large.mkdir()
    assert datasets.usual(factory, {"path": str(large)}) == {}
    Image.new("L", (300, 400)).save(large / "a.png")
    assert datasets.usual(factory, {"path": str(large)}) == {"size": 224}
    assert datasets.usual(*datasets.chosen("digits", "images")) == {}


def test_every_method_has_a_command():
    """One whose networks had a name that no role has would be left out silently."""
    assert {f.__name__ for f in recipes.METHODS} == {*methods.__all__} - {"with_probe"}


PRESETS = (
    presets.digits(),
    presets.small_images(),
    presets.photographs(),
    presets.records(),
    presets.strokes(),
)


@pytest.mark.parametrize("method", recipes.METHODS, ids=lambda f: f.__name__)
def test_every_preset_names_known_arguments(method):
    """A misspelt argument of a preset would be ignored by the command line."""
    names = {f.__name__ for f in recipes.METHODS}
    for preset in PRESETS:
        assert set(preset.methods) <= names
        assert set(preset.vit) <= names | {presets.OTHERS}
    for preset, encoder, trained in itertools.product(
        PRESETS, ("", "vit", "resnet", "convnet"), (False, True)
    ):
        found = presets.for_method(preset, method.__name__)
        if encoder:
            found = presets.for_network(
                found, method.__name__, encoder, trained=trained
            )
        factories = {
            "augment": recipes.find(recipes.AUGMENTS, found.augment, "augment"),
            "optimizer": recipes.find(recipes.OPTIMIZERS, found.optimizer, "optimizer"),
        } | {f.__name__: f for f in recipes.METHODS}
        for role, known in recipes.ROLES.items():
            name = found.networks.get(role, known[0].__name__)
            factories[role] = recipes.find(known, name, role)
        factories[method.__name__] = method  # `context` is a role of cpc, too
        for part, arguments in found.arguments.items():
            assert set(arguments) <= set(inspect.signature(factories[part]).parameters)


def test_reads_the_first_format(tmp_path):
    """Runs made before methods had networks by role."""
    recipes.write(recipe(), tmp_path / "run.json")
    content = json.loads((tmp_path / "run.json").read_text())
    fields = content["recipe"]
    fields |= fields.pop("networks") | {"predictor": None}
    (tmp_path / "run.json").write_text(json.dumps(content | {"format": 1}))
    assert recipes.read(tmp_path / "run.json")[0] == recipe()


@pytest.mark.parametrize("side", [32, 224])
@pytest.mark.parametrize(
    "method",
    [
        *("clip", "siglip", "i_jepa", "mae", "simmim", "memory_bank", "supervised"),
        *("rotation", "jigsaw", "context"),
    ],
)
def test_a_method_that_looks_at_one_view_draws_one(method, side):
    preset = presets.for_method(presets.for_data("folder", (side, side, 3)), method)
    assert preset.arguments["augment"]["num_views"] == 1
