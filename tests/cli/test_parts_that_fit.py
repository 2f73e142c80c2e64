"""Every encoder, decoder and augmentation the help of a method offers it.

Each either gives a loss or is refused in one line, before anything is compiled; the
defaults always give one.
"""

import jax
import numpy as np
import pytest
from PIL import Image

from rl_jax.cli import recipe as recipes
from rl_jax.data import shapes
from rl_jax.errors import UsageError
from rl_jax.run import check, datasets, pretrain
from rl_jax.run import recipe as parts
from rl_jax.train import step_keys

TINY = {
    "vit": "--encoder.patch 4 --encoder.width 8 --encoder.depth 1 --encoder.heads 2",
    "resnet": "--encoder.width 2",
    "text_transformer": "--encoder.width 8 --encoder.depth 1 --encoder.heads 2",
}
QUICK = ("bert", "ivae")
SLOW = pytest.mark.slow
METHODS = [
    pytest.param(
        f, id=f.__name__, marks=[] if f.__name__ in QUICK else pytest.mark.slow
    )
    for f in parts.METHODS
]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "images.npz"
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 16, 3), np.uint8)
    np.savez(path, image=image, label=np.arange(16) % 2)
    return str(path)


def trace(method, data, argv):
    """The shapes of a loss; nothing is compiled."""
    asked = recipes.read("pretrain", [method.__name__, "--data", data, *argv])
    check.check(asked.recipe, asked.source)
    built = parts.build(asked.recipe, asked.source)
    state = jax.eval_shape(pretrain.initial(asked.recipe, built))
    rows = asked.recipe.batch_size
    batch = {
        name: jax.ShapeDtypeStruct((rows, *shape), dtype)
        for name, (shape, dtype) in shapes(asked.source).items()
    }
    batch["index"] = jax.ShapeDtypeStruct((rows,), np.int32)

    def loss(state, batch):
        rng_views, rng_loss = step_keys(jax.random.key(0), 0)
        seen = built.augment.views(rng_views, batch)
        return built.method.loss(state.params, state.state, seen, rng_loss)[0]

    return jax.eval_shape(loss, state, batch)


def gives_a_loss(method, data, argv):
    """Whether it does; else it must be refused in one line."""
    try:
        assert trace(method, data, argv).shape == (), argv
    except UsageError as error:
        said = str(error)
    except Exception as error:
        raise AssertionError(f"{argv} ends in a traceback") from error
    else:
        return True
    assert "\n" not in said, argv
    return False


@pytest.mark.parametrize("method", METHODS)
def test_what_does_not_fit_a_method_is_refused_in_one_line(method, images):
    kind = datasets.kind(method)
    data = images if kind == "images" else datasets.default(kind)
    choices = {role: parts.ROLES[role] for role in parts.roles(method)}
    choices |= {"augment": parts.AUGMENTS, "optimizer": parts.OPTIMIZERS}
    chosen = ["--batch-size", "8", "--steps", "2"]
    for part, known in choices.items():
        if len(known) == 1:
            continue
        flags = [
            [f"--{part}", f.__name__, *TINY.get(f.__name__, "").split()] for f in known
        ]
        fit = [each for each in flags if gives_a_loss(method, data, chosen + each)]
        assert fit, f"no {part} fits"
        chosen += fit[0]


def of_images(*quick):
    return [
        pytest.param(f, id=f.__name__, marks=[] if f.__name__ in quick else SLOW)
        for f in parts.METHODS
        if datasets.kind(f) in ("images", "captions")
    ]


def folder_of(folder, height, width):
    """Forty images in two classes, each with a caption."""
    rng = np.random.default_rng(0)
    lines = ["image,caption"]
    for k in range(40):
        path = folder / f"class{k % 2}" / f"{k:02}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(path)
        lines.append(f"class{k % 2}/{k:02}.png,picture {k} of class {k % 2}")
    (folder / "captions.csv").write_text("\n".join(lines))
    return str(folder)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return folder_of(tmp_path_factory.mktemp("small"), 48, 64)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    return folder_of(tmp_path_factory.mktemp("photographs"), 100, 130)


@pytest.mark.parametrize("method", of_images("jigsaw"))
def test_the_defaults_fit_a_small_folder_of_images(method, small):
    assert trace(method, small, []).shape == ()


@pytest.mark.parametrize("method", of_images())
def test_the_published_settings_fit_photographs(method, photographs):
    """Crops that patches divide, heads and optimizers that know their networks."""
    assert trace(method, photographs, []).shape == ()
