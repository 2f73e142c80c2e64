"""From operations on one image to the augmentation of a batch."""

from collections.abc import Callable, Sequence
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np

from rl_jax.augment import ranges
from rl_jax.augment.crop import centre_crop
from rl_jax.errors import UsageError
from rl_jax.types import Augment, Batch

Transform = Callable[[chex.PRNGKey, chex.Array], chex.Array]
"""`(rng, image) -> image` on one image [H, W, C] float32 in [0, 1]; shapes static."""


FINISH = 2**31 - 1
"""Folded into a view's key for what is done once it is standardised."""


def compose(*transforms: Transform) -> Transform:
    """One transform that applies the given ones in order.

    The k-th draws from `fold_in(rng, k)`: appending one leaves the others' draws alone.

    Args:
      *transforms: functions `(rng, image) -> image`; bind options with
        `functools.partial`.

    Returns:
      A function `(rng, image) -> image`.
    """

    def transform(rng, image):
        for k, step in enumerate(transforms):
            image = step(jax.random.fold_in(rng, k), image)
        return image

    return transform


def to_float(image: chex.Array) -> chex.Array:
    """Turns uint8 in [0, 255] into float32 in [0, 1]; floats only change their type.

    Args:
      image: [B, H, W, C] uint8, or floating point in [0, 1].

    Returns:
      [B, H, W, C] float32.

    Raises:
      UsageError: another rank or type.
    """
    if image.ndim != 4:
        raise UsageError(
            f"augment: image must be [B, H, W, C], got shape {tuple(image.shape)}"
        )
    if image.dtype == jnp.uint8:
        return jnp.asarray(image, jnp.float32) / 255
    if jnp.issubdtype(image.dtype, jnp.floating):
        return jnp.asarray(image, jnp.float32)
    raise UsageError(
        "augment: image must be uint8 in [0, 255] or floating point in [0, 1], "
        f"got {image.dtype}"
    )


def _per_channel(values: float | Sequence[float], image: chex.Array) -> chex.Array:
    array = jnp.asarray(values, jnp.float32)
    if image.shape[-1] == 1:
        array = jnp.mean(array)  # a grey image in a data set described by colours
    if array.size not in (1, image.shape[-1]):
        raise UsageError(
            f"augment: mean and std must have one value or one per channel, got "
            f"{array.size} for an image of shape {tuple(image.shape)}"
        )
    return array.reshape((1,) * (image.ndim - 1) + (-1,))


def standardise(
    image: chex.Array, mean: float | Sequence[float], std: float | Sequence[float]
) -> chex.Array:
    """(x − mean) / std of each channel of [..., C]; one value, or one per channel."""
    return (image - _per_channel(mean, image)) / _per_channel(std, image)


def check_standard(
    op: str, mean: float | Sequence[float], std: float | Sequence[float]
) -> None:
    """Raises UsageError unless both are finite, and std > 0."""
    if not np.min(std) > 0:
        raise UsageError(f"{op}: std must be > 0, got {std}")
    for name, value in (("mean", mean), ("std", std)):
        if not np.isfinite(value).all():
            raise UsageError(f"{op}: {name} must be finite, got {value}")


def check_batch(batch: Batch, *names: str) -> None:
    """Raises UsageError unless a batch has the named entries."""
    if not batch.keys() >= set(names):
        needed = " and ".join(f"`{name}`" for name in names)
        raise UsageError(
            f"augment: batch must have {needed}, got {sorted(batch)}; use the "
            "augmentation none for other data"
        )


def views(
    *transforms: Transform,
    num_views: int = 2,
    second: Sequence[Transform] | None = None,
    local: Sequence[Transform] = (),
    num_local: int = 0,
    finish: Sequence[Transform] = (),
    size: int | None = None,
    crop_fraction: float = 0.875,
    mean: float | Sequence[float] = 0.0,
    std: float | Sequence[float] = 1.0,
) -> Augment:
    """Makes an augmentation that draws several views of every image of a batch.

    View v of example i is standardise(T(fold_in(fold_in(rng, index_i), v), image_i)),
    and what `finish` makes of that. It depends neither on the position in the batch nor
    on the number of devices.

    Args:
      *transforms: `(rng, image) -> image` in order of application, of all views or,
        with `second`, of the first; all views must come out in one shape.
      num_views: V >= 1.
      second: transforms of the second of two views where the views are treated
        differently (BYOL, MoCo v3).
      local: transforms of further, smaller views beside these (multi-crop: SwAV, DINO).
        They are drawn as views V, V + 1, …, so that the first V stay what they are.
      num_local: how many of those, ≥ 0.
      finish: transforms of the views once they are standardised, as random erasing, in
        order; smaller views have none.
      size: side in pixels of the clean image, see `centre_crop`; None leaves images as
        they come.
      crop_fraction: share of the shorter side the clean image shows, in (0, 1]; applies
        where that side is above `size`.
      mean, std: of the data set, one value or one per channel, in units of [0, 1];
        grey images take the mean over channels; standardised is (x − mean) / std.

    Returns:
      An `Augment`. `views(rng, batch)` takes `image` [B, H, W, C], uint8 or float in
      [0, 1], and `index` int32 [B]; it needs its own `rng` at every step. With
      `num_local` its result has `local_views` [B, num_local, h, w, C] too.

    Raises:
      UsageError: an argument out of bounds; in use, a batch that does not fit.
    """
    ranges.whole("views", 1, num_views=num_views)
    ranges.whole("views", 0, num_local=num_local)
    if num_local and not local:
        raise UsageError(
            f"views: num_local={num_local} without `local`; name its transforms, a "
            "crop first"
        )
    ranges.shares("views", crop_fraction=crop_fraction)
    if size is not None:
        ranges.whole("views", 1, size=size)
    check_standard("views", mean, std)
    if second is not None and num_views != 2:
        raise UsageError(
            f"views: num_views must be 2 where `second` is given, got {num_views}"
        )
    first_view = compose(*transforms)
    second_view = None if second is None else compose(*second)
    local_view = compose(*local)
    finished = compose(*finish)

    def clean(image):
        image = to_float(image)
        if size is not None:
            crop = partial(centre_crop, size=size, fraction=crop_fraction)
            image = jax.vmap(crop)(image)
        return standardise(image, mean, std)

    def draw(transform, numbers, rngs, image):
        def several(rng, image):
            def one(view):
                return transform(jax.random.fold_in(rng, view), image)

            return jax.vmap(one)(numbers)

        # Views within examples: the products of a crop leave them in this order.
        return jax.vmap(several)(rngs, image)

    def finish_each(rng, drawn):
        def one(view, image):
            # A key that no transform before it has.
            rng_view = jax.random.fold_in(jax.random.fold_in(rng, view), FINISH)
            return finished(rng_view, image)

        return jax.vmap(one)(jnp.arange(num_views), drawn)

    def augment(rng: chex.PRNGKey, batch: Batch) -> Batch:
        check_batch(batch, "image", "index")
        image, index = to_float(batch["image"]), jnp.asarray(batch["index"])
        whole = jnp.issubdtype(index.dtype, jnp.integer)
        if not whole or index.shape != image.shape[:1]:
            raise UsageError(
                f"augment: index must be [{len(image)}] integers, one for each image, "
                f"got {index.dtype} of shape {index.shape}"
            )
        rngs = jax.vmap(jax.random.fold_in, (None, 0))(rng, index)
        if second_view is None:
            drawn = draw(first_view, jnp.arange(num_views), rngs, image)
        else:
            parts = [
                draw(view, jnp.array([k]), rngs, image)
                for k, view in enumerate((first_view, second_view))
            ]
            drawn = jnp.concatenate(parts, axis=1)
        drawn = standardise(drawn, mean, std)
        if finish:
            drawn = jax.vmap(finish_each)(rngs, drawn)
        made = {"image": clean(batch["image"]), "views": drawn}
        if num_local:
            numbers = num_views + jnp.arange(num_local)
            crops = draw(local_view, numbers, rngs, image)
            made["local_views"] = standardise(crops, mean, std)
        return {**batch, **made}

    return Augment(views=augment, clean=clean)
