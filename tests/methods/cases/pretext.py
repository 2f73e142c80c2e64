"""Made tasks, and the supervised baseline."""

import jax
import jax.numpy as jnp

from cases import PLAIN, Case, images
from rl_jax import methods, networks


def enlarged(seed):
    """Float images of 12×12, which three tiles and three patches divide."""
    batch = images(seed)
    image = batch["image"].astype(jnp.float32) / 255.0
    return batch | {"image": jax.image.resize(image, (16, 12, 12, 1), "linear")}


def coloured(seed):
    batch = enlarged(seed)
    noise = jax.random.normal(jax.random.key(seed), (16, 12, 12, 3))
    return batch | {"image": batch["image"] + 0.1 * noise}


def encoder():
    return networks.mlp(features=(16,), out=16)


def head(**arguments):
    return networks.task_head(hidden=16, **arguments)


CASES = {
    "rotation": Case(lambda: methods.rotation(encoder())),
    "rotation drawn": Case(
        lambda: methods.rotation(encoder(), all_four=False),
        enlarged,
        PLAIN,
        slow=True,
    ),
    "jigsaw": Case(
        lambda: methods.jigsaw(encoder(), head(), permutations=5), enlarged, PLAIN
    ),
    "context": Case(lambda: methods.context(encoder(), head()), coloured, PLAIN),
    "context of grey images": Case(
        lambda: methods.context(encoder(), head(layers=1)), enlarged, PLAIN, slow=True
    ),
    "supervised": Case(
        lambda: methods.supervised(
            encoder(),
            num_classes=4,
            feature_penalty=1e-2,
            label_smoothing=0.1,
            mixup=0.8,
            cutmix=1.0,
        )
    ),
    "supervised + probe": Case(
        lambda: methods.with_probe(
            methods.supervised(encoder(), num_classes=4), num_classes=4
        ),
        slow=True,
    ),
}
