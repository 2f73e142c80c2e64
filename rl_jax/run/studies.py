"""What a run gives an evaluation to measure."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from rl_jax import data, evaluate, networks
from rl_jax.run import measures
from rl_jax.run.encode import encode, encode_batch, encoder, in_one_pass
from rl_jax.run.measures import Images, Pair, Reading, Seen, Study
from rl_jax.run.split import Part, as_read, rows_of
from rl_jax.run.trained import Run
from rl_jax.types import Augment, Method

PAIRWISE = (
    *("simclr", "info_nce", "moco", "moco_v3", "nnclr", "memory_bank", "sup_con"),
)
"""Methods whose temperature is that of a softmax over cosines of embeddings."""
BASELINES = ("random", "raw")
MAX_IMAGES = 1000
"""Scored images that are corrupted, or seen in many views, spread over the part."""
MANY_VIEWS = 10
"""Of each of them, for LiDAR; its authors have 50."""
SECOND = 2**31 - 1
"""Folded in for the other of two views: a key that no split gives, as by 0, 1, ..."""


def study(run: Run, fit_part: Part, scored_part: Part) -> Study:
    """Encodes both parts: what was trained, the untrained encoder, the raw input."""
    sides = []
    for part in (fit_part, scored_part):
        source = rows_of(part)
        method, augment = run.parts.method, run.parts.augment
        looks = [
            encoder(method, augment, run.state, layers=True),
            encoder(method, augment, run.untrained),
            _raw,
        ]
        found, untrained, raw = in_one_pass(source, looks, like=run.state.params)
        found["random"] = untrained["h"]
        if "pixels" in raw:
            raw = {"raw": evaluate.raw_pixels(raw["pixels"])}
        sides.append(found | raw)
    # A text that goes with an example is no representation of it.
    pairs = {
        k: Pair(v, sides[1][k])
        for k, v in sides[0].items()
        if v.ndim == 2 and k != "text"
    }
    layers = networks.in_order(pairs)
    kept = {k: v for k, v in pairs.items() if k not in layers}
    temperature = None
    if run.recipe.method.factory in PAIRWISE:
        temperature = float(run.recipe.method.arguments["temperature"])
    factors = None
    if "factors" in run.parts.source.fields:
        factors = Pair(
            *(rows_of(part).fields["factors"] for part in (fit_part, scored_part))
        )
    return Study(
        representations=kept,
        labels=Pair(as_read(fit_part).labels, as_read(scored_part).labels),
        classes=tuple(run.parts.source.class_names),
        titles={name: _title(name, run) for name in kept},
        network=run.parts.method.network,
        baselines=tuple(name for name in BASELINES if name in kept),
        layers={k: pairs[k] for k in layers},
        views=_two_views(run, scored_part),
        clouds=lambda: _many_views(run, scored_part),
        temperature=temperature,
        factors=factors,
    )


def images(
    run: Run, scored_part: Part, study: Study, readings: dict[str, Reading]
) -> Images | None:
    """The scored images with labels, and who looks at them; None without any."""
    source = run.parts.source
    if not source.image_shape or source.image_shape[2] not in (1, 3):
        return None
    first = readings[study.headline]
    places = first.rows.scored_labels
    known = np.flatnonzero(study.labels.scored >= 0)
    known, places = (v[places < len(first.rows.classes)] for v in (known, places))
    if not len(known):
        return None
    chosen = measures.spread(len(known), MAX_IMAGES)
    batch = data.examples(scored_part.source, scored_part.index[known[chosen]])
    rest = {k: v for k, v in batch.items() if k not in ("image", "label")}

    def by(state):
        """Encoders read nothing but the image: one row's other entries do for all."""

        def look(x):
            other = {k: jnp.broadcast_to(jnp.asarray(v)[:1], (len(x), *v.shape[1:]))
                     for k, v in rest.items()}  # fmt: skip
            made = encode_batch(
                run.parts.method,
                run.parts.augment,
                state.params,
                state.state,
                other | {"image": x},
            )
            return made["h"]

        return look

    encoders: dict[str, Callable] = {
        study.headline: by(run.state),
        "random": by(run.untrained),
        "raw": lambda x: _small(x).reshape(len(x), -1),
    }
    seen = tuple(Seen(k, encode, readings[k]) for k, encode in encoders.items())
    clean = batch["image"].astype(np.float32) / 255.0
    return Images(seen, clean, places[chosen], "raw")


def checkpoints(
    run: Run, study: Study, states, fit_part: Part, scored_part: Part
) -> dict[int, Pair]:
    """`{step: h of both parts}`: the untrained encoder, `states`, the run as it is.

    Without the untrained one where the run did not start from that.

    Args:
      run: evaluated in `study`, which has the ends.
      study: of the run.
      states: `(step, state)` of the checkpoints between, in order.
      fit_part, scored_part: as in `study`.
    """
    method, augment = run.parts.method, run.parts.augment
    found = {} if run.recipe.init_from else {0: study.representations["random"]}
    for step, state in states:
        sides = (
            encode(method, augment, state, rows_of(part))["h"]
            for part in (fit_part, scored_part)
        )
        found[step] = Pair(*sides)
    return found | {run.step: study.representations["h"]}


def _title(name: str, run: Run) -> str:
    raw = "raw pixels" if run.parts.source.image_shape else "raw input"
    known = {"raw": raw, "random": "untrained encoder h"}
    network, words = run.parts.method.network, [run.recipe.method.factory, name]
    if network != "online" and name in ("h", "z"):
        words.insert(1, network)
    return known.get(name, " ".join(words))


def _two_views(run: Run, part: Part) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Two views of each scored image; {} where there are none."""
    source = rows_of(part)
    if not source.image_shape or source.size < 2:
        return {}
    found = _views(run, source, np.arange(source.size), rounds=1)
    return {name: (x[:, 0], x[:, 1]) for name, x in found.items()}


def _many_views(run: Run, part: Part) -> dict[str, np.ndarray]:
    """Many views of some scored images, [m, q, D]; {} where there are none."""
    source = rows_of(part)
    if not source.image_shape or source.size < 2:
        return {}
    few = measures.spread(source.size, MAX_IMAGES)
    return _views(run, source, few, rounds=MANY_VIEWS // 2)


def _views(
    run: Run, source: data.Source, rows: np.ndarray, *, rounds: int
) -> dict[str, np.ndarray]:
    """Views of images through the encoder in evaluation mode, [m, 2·rounds, D].

    {} for methods whose views are no images of the shape it encodes.
    """
    look = _look(run.parts.method, run.parts.augment)
    rng = jax.random.key(run.recipe.seed)
    rngs = [rng, *jax.random.split(rng, rounds - 1)]
    size, blocks = min(256, source.size), []
    indices = (
        np.resize(rows[start : start + size], size).astype(np.int32)
        for start in range(0, len(rows), size)
    )
    for batch in data.batches(source, indices):
        seen = [look(run.state.params, run.state.state, batch, rng) for rng in rngs]
        blocks.append(
            {
                name: np.concatenate([np.stack(one[name], 1) for one in seen], axis=1)
                for name in seen[0]
            }
        )
    return {
        name: np.concatenate([block[name] for block in blocks])[: len(rows)]
        for name in blocks[0]
    }


@functools.lru_cache(maxsize=4)
def _look(method: Method, augment: Augment):
    """`(params, state, batch, rng) -> {name: ([B, D], [B, D])}` of two views."""

    def look(params, state, given, rng):
        batch = augment.views(rng, given)
        views, image = batch.get("views"), batch["image"]
        if views is None or views.shape[2:] != image.shape[1:]:
            return {}
        if views.shape[1] == 1:
            # The method looks at one; another is drawn as in another step.
            other = augment.views(jax.random.fold_in(rng, SECOND), given)["views"]
            views = jnp.concatenate([views, other], axis=1)
        kept = {k: v for k, v in batch.items() if k not in ("views", "label")}
        sides = [
            method.encode(params, state, kept | {"image": views[:, i]}) for i in (0, 1)
        ]
        return {
            name: tuple(side[name] for side in sides)
            for name in ("h", "z")
            if name in sides[0] and sides[0][name].ndim == 2
        }

    return jax.jit(look)


def _raw(host, placed) -> dict[str, np.ndarray]:
    """What a method is given, as features; nothing for text."""
    del placed
    image = host.get("image")
    if image is not None and image.ndim == 4 and image.dtype == np.uint8:
        return {"pixels": _small(image).round().astype(np.uint8)}
    for name in ("image", "sequence"):
        if name in host:
            return {"raw": host[name].reshape(len(host[name]), -1)}
    return {}


def _small(images, *, most: int = 32):
    """[B, H, W, C], averaged down to at most `most` pixels a side."""
    k = -(-max(images.shape[1:3]) // most)
    n, height, width, channels = images.shape
    images = images[:, : height // k * k, : width // k * k]
    images = images.reshape(n, height // k, k, width // k, k, channels)
    return images.mean((2, 4))
