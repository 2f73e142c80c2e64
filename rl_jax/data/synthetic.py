"""Made data whose factors are known, to test whether a method finds them."""

from typing import Literal

import numpy as np

from rl_jax.data.arguments import at_least, whole
from rl_jax.data.draws import normal, on_sphere, snapped, uniform
from rl_jax.data.mixing import mix, random_maps
from rl_jax.data.records import records
from rl_jax.data.source import Source
from rl_jax.errors import UsageError

# Draws of the training part start here, those of the held-out part there.
_PARTS = (0, 100)


def ica(
    *,
    sources: int = 4,
    observed: int = 8,
    segments: int = 30,
    per_segment: int = 500,
    seed: int = 0,
) -> Source:
    """Nonlinear mixtures of sources whose variances change with an observed variable.

    The data of identifiable nonlinear ICA (Hyvarinen & Morioka 2016, arXiv:1605.06336;
    Khemakhem et al. 2020, arXiv:1907.04809). In segment u the sources are independent
    normal variables of mean 0 and of standard deviations drawn log-uniformly from
    0.15 .. 1.5, then each is scaled to variance 1 over all segments. They are observed
    through two maps with orthonormal rows and a leaky ReLU of slope 0.2 between,
    without noise but for rounding to multiples of 2^-16.

    Args:
      sources: number d of sources, >= 1.
      observed: number D of observed variables, >= d.
      segments: number of values of u, >= 1.
      per_segment: examples of each segment, >= 5; a fifth as many are held out.
      seed: in [0, 2^64).

    Returns:
      A source with the fields `image` float32 [n, D], `u` int32 [n], and the truth,
      `factors` float32 [n, d].

    Raises:
      UsageError: an argument out of range.
    """
    whole(
        "ica",
        sources=sources,
        observed=observed,
        segments=segments,
        per_segment=per_segment,
        seed=seed,
    )
    at_least(
        "ica",
        sources=(sources, 1),
        observed=(observed, sources),
        segments=(segments, 1),
        per_segment=(per_segment, 5),
    )
    log_sd = np.log(0.15) + np.log(10) * uniform(seed, 200, (segments, sources))
    sd = np.exp(log_sd)
    sd = sd / np.sqrt(np.mean(sd**2, axis=0))
    maps = random_maps(seed, (sources, observed, observed))
    made = None
    for part, count in ((1, per_segment // 5), (0, per_segment)):
        u = np.repeat(np.arange(segments), count)
        factors = sd[u] * normal(seed, _PARTS[part], (len(u), sources))
        made = records(
            {
                "image": snapped(mix(maps, factors)),
                "u": u,
                "factors": snapped(factors),
            },
            name="ica held out" if part else "ica",
            held_out=made,
        )
    assert made is not None
    return made


def latent_classes(
    *,
    classes: int = 5,
    pairs: Literal["content", "class"] = "content",
    content: int = 3,
    style: int = 3,
    observed: int = 10,
    noise: float = 0.1,
    spread: float = 0.3,
    size: int = 20_000,
    seed: int = 0,
) -> Source:
    """Pairs of observations that share content, a point of the sphere, and not style.

    The setting in which contrastive learning inverts the generator up to a rotation
    (Zimmermann et al. 2021, arXiv:2102.08850; von Kügelgen et al. 2021,
    arXiv:2106.04619). Style is normal with standard deviation 0.5 and drawn anew for
    the second view. Both are observed through three maps with orthonormal rows, the
    first times 1.5, and leaky ReLUs of slope 0.2 between.

    Args:
      classes: number C of labels, >= 2. Their centres are points of the sphere far
        from each other.
      pairs: "content": content is uniform, that of the second view the same but for
        `noise`, and the label is the nearest centre. "class": the label is uniform and
        both views' content is drawn around its centre, independently: the latent
        classes of Arora et al. (2019, arXiv:1902.09229).
      content: dimensions of content, >= 2.
      style: dimensions of style, >= 0.
      observed: number D of observed variables, >= content + style.
      noise: standard deviation added to each coordinate of content before it is
        brought back to the sphere, >= 0.
      spread: the same around a class's centre.
      size: training examples, >= 5; a fifth as many are held out.
      seed: in [0, 2^64).

    Returns:
      A source with the fields `image` and `pair`, float32 [n, D], and the truth of
      `image`: `factors` float32 [n, content + style], content first, and labels.

    Raises:
      UsageError: an argument out of range.
    """
    whole(
        "latent_classes",
        classes=classes,
        content=content,
        style=style,
        observed=observed,
        size=size,
        seed=seed,
    )
    at_least(
        "latent_classes",
        classes=(classes, 2),
        content=(content, 2),
        style=(style, 0),
        observed=(observed, content + style),
        noise=(noise, 0),
        spread=(spread, 0),
        size=(size, 5),
    )
    if pairs not in ("content", "class"):
        raise UsageError(
            f"latent_classes: pairs must be 'content' or 'class', got {pairs!r}"
        )
    centres = _far_apart(seed, classes, content)
    inner = content + style
    maps = random_maps(seed, (inner, observed, observed, observed), gain=1.5)
    made = None
    for part, count in ((1, size // 5), (0, size)):
        first = _PARTS[part]
        shape = (count, content)
        if pairs == "content":
            one = on_sphere(normal(seed, first, shape))
            two = on_sphere(one + noise * normal(seed, first + 1, shape))
            labels = np.argmax(one @ centres.T, axis=1)
        else:
            labels = np.floor(classes * uniform(seed, first + 4, (count,))).astype(int)
            one, two = (
                on_sphere(centres[labels] + spread * normal(seed, first + i, shape))
                for i in (0, 1)
            )
        one, two = (
            np.concatenate([c, 0.5 * normal(seed, first + i, (count, style))], axis=1)
            for i, c in ((2, one), (3, two))
        )
        made = records(
            {
                "image": snapped(mix(maps, one)),
                "pair": snapped(mix(maps, two)),
                "factors": snapped(one),
            },
            labels,
            name="latent_classes held out" if part else "latent_classes",
            class_names=tuple(str(label) for label in range(classes)),
            held_out=made,
        )
    assert made is not None
    return made


def _far_apart(seed: int, count: int, size: int) -> np.ndarray:
    """Points of the sphere, each the farthest of 1,000 from those before it."""
    drawn = on_sphere(normal(seed, 201, (1000 + count, size)))
    chosen = drawn[:1]
    for _ in range(count - 1):
        farthest = np.argmin((drawn @ chosen.T).max(axis=1))
        chosen = np.concatenate([chosen, drawn[farthest][None]])
    return chosen
