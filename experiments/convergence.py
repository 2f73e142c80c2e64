"""Sufficiency, collapse and contrast meet in a simplex, if the classes are equidistant.

x ~ N(μ_y, Σ), balanced classes. Three ways to a direction for each class, centred:

    the sufficient statistic  T_c(x) = μ_cᵀΣ⁻¹x,        if the mixture is known,
    class means of supervised features,                  if labels are,
    class means of InfoNCE, positives of one class,      if pairs are.

If all means are equally far apart by Mahalanobis distance, all three have cosines
−1/(C−1): the simplex equiangular tight frame, the last two by symmetry of their
objectives (Papyan, Han & Donoho 2020, arXiv:2008.08186; Wang & Isola 2020,
arXiv:2005.10242). Those of the statistic are to be taken in the metric of Σ, in which T
has its covariance; in the plain one they are a simplex for Σ = σ²I only.

In the figure each line is a pair of classes, and its three cosines. With equidistant
means all meet at −1/(C−1), dotted; in general position they neither meet there nor each
other.
"""

import jax
import jax.numpy as jnp
import numpy as np

from experiments import figure as figures
from experiments import outcome, training
from rl_jax import losses, methods, networks, theory

SECTION = "12.4"
TITLE = "Three ways to one simplex, and when they part"
CASES = ("equidistant, Σ = I", "equidistant by Σ", "general position")
_CLASSES, _DIM, _HELD = 4, 10, 500


def run(
    *,
    seeds: int = 2,
    penalty: float = 0.01,
    supervised_steps: int = 400,
    contrastive_steps: int = 200,
    batch_size: int = 128,
) -> outcome.Outcome:
    """Trains on fresh points of three mixtures, all together.

    Args:
      seeds: networks of each kind.
      penalty: λ on supervised features and classifier.
      supervised_steps: of Adam.
      contrastive_steps: of Adam; InfoNCE is there sooner.
      batch_size: points, or pairs of points.
    """
    means, covariances = _mixtures()
    roots = np.linalg.cholesky(covariances)
    label = np.repeat(np.arange(_CLASSES), _HELD)
    encoder = networks.mlp(features=(64, 64), out=16, batch_norm=False)
    method = methods.supervised(encoder, num_classes=_CLASSES, feature_penalty=penalty)

    def points(rng, mixture, label):
        mean, root = mixture
        return mean[label] + jax.random.normal(rng, (len(label), _DIM)) @ root.T

    def means_of(features):
        return features.reshape(_CLASSES, _HELD, -1).mean(1)

    def supervised(mixture, rng):
        x = points(jax.random.key(2), mixture, label)
        params, state = method.init(rng, {"image": x, "label": label})

        def loss(params, rng):
            first, second = jax.random.split(rng)
            y = jax.random.randint(first, (batch_size,), 0, _CLASSES)
            batch = {"image": points(second, mixture, y), "label": y}
            return method.loss(params, state, batch, rng)[0]

        params = minimised(loss, params, supervised_steps)
        return means_of(method.encode(params, state, {"image": x})["h"])

    def contrastive(mixture, rng):
        x = points(jax.random.key(2), mixture, label)
        params, state = encoder.init(rng, x)

        def encode(params, x):
            return encoder.apply(params, state, x, train=True)[0]

        def loss(params, rng):
            first, *views = jax.random.split(rng, 3)
            y = jax.random.randint(first, (batch_size,), 0, _CLASSES)
            a, b = (encode(params, points(v, mixture, y)) for v in views)
            return losses.clip(a, b, logit_scale=2.0)

        params = minimised(loss, params, contrastive_steps)
        return means_of(losses.normalize(encode(params, x)))

    def minimised(loss, params, steps):
        return training.minimise(
            loss, params, jax.random.key(1), steps=steps, every=steps,
            optimizer=training.adam(5e-3, steps=steps),
        )[0]  # fmt: skip

    mixtures = jnp.asarray(means, jnp.float32), jnp.asarray(roots, jnp.float32)
    rngs = jax.random.split(jax.random.key(0), seeds)
    grams = {"supervised": supervised, "InfoNCE": contrastive}
    for name, train in grams.items():
        of_seeds = jax.vmap(train, in_axes=(None, 0))
        found = jax.jit(jax.vmap(of_seeds, in_axes=(0, None)))(mixtures, rngs)
        grams[name] = np.array([[_gram(m) for m in row] for row in np.asarray(found)])
    statistic = [
        theory.mixture_statistic(mean, covariance)
        for mean, covariance in zip(means, covariances, strict=True)
    ]
    grams["statistic"] = np.array([
        [_gram(t, metric)] for t, metric in zip(statistic, covariances, strict=True)
    ])  # fmt: skip
    simplex = theory.simplex_gram(_CLASSES)
    plain = np.abs(_gram(statistic[1]) - simplex).max()

    def apart(case, name, other):
        """The largest difference of cosines, for each seed; None is the simplex."""
        goal = simplex if other is None else grams[other][case]
        return np.abs(grams[name][case] - goal).max((1, 2))

    three = "supervised", "InfoNCE", "statistic"
    close = [(case, name, None) for case in (0, 1) for name in three]
    close += [(0, a, b) for i, b in enumerate(three) for a in three[:i]]
    far = [(2, "statistic", None, 0.3), (2, "supervised", "statistic", 0.2)]

    def quantity(case, name, other):
        return f"{CASES[case]}: |{name} − {other or 'simplex'}|"

    learned = max(apart(0, name, None).max() for name in three[:2])
    return outcome.Outcome(
        checks=(
            *(outcome.at_most(quantity(*what), apart(*what), 0.1) for what in close),
            *(
                outcome.at_least(quantity(*what), apart(*what), bound)
                for *what, bound in far
            ),
        ),
        data={"grams": grams},
        said=(
            "Equidistant means, Σ = I: the statistic's cosines are within "
            f"{apart(0, 'statistic', None).max():.0e} of the simplex, those of learned "
            f"means within {learned:.3f}, supervised and InfoNCE within "
            f"{apart(0, 'supervised', 'InfoNCE').max():.3f} of each other."
        ),
        correction=(
            "Not for every mixture. In general position the statistic's cosines are "
            f"{apart(2, 'statistic', None).max():.2f} from the simplex, supervised "
            f"ones {apart(2, 'supervised', None).max():.2f}, InfoNCE's "
            f"{apart(2, 'InfoNCE', None).max():.2f}, and statistic and supervised "
            f"{apart(2, 'supervised', 'statistic').max():.2f} from each other. And "
            "where Σ is not isotropic the statistic's are those of a simplex in the "
            f"metric of Σ only: in the plain one they are {plain:.2f} off."
        ),
    )


def _mixtures():
    """Class means [3, C, D] and covariances [3, D, D]."""
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.normal(size=(_DIM, _DIM)))[0]
    equal = 4 * axes[:_CLASSES]
    root = rng.normal(size=(_DIM, _DIM))
    covariance = 0.1 * root @ root.T + 0.3 * np.eye(_DIM)
    by_metric = equal @ np.linalg.cholesky(covariance).T
    # Two at 37°, two opposite each other.
    near = np.cos(0.65) * axes[0] + np.sin(0.65) * axes[1]
    general = 4 * np.stack([axes[0], near, axes[2], -axes[2]])
    eye = np.eye(_DIM)
    return np.stack([equal, by_metric, general]), np.stack([eye, covariance, eye])


def _gram(rows, metric=None):
    """Cosines of the rows, centred, in a metric."""
    rows = np.asarray(rows, np.float64)
    rows = rows - rows.mean(0)
    gram = rows @ rows.T if metric is None else rows @ metric @ rows.T
    length = np.sqrt(np.diag(gram))
    return gram / np.outer(length, length)


def draw(figure, found: outcome.Outcome) -> None:
    """Cosines of each pair of classes, three ways, for three mixtures."""
    grams = found.data["grams"]
    names = ("statistic", "supervised", "InfoNCE")
    upper = np.triu_indices(_CLASSES, 1)
    for case, axes in enumerate(figure.subplots(1, 3, sharey=True)):
        axes.axhline(-1 / (_CLASSES - 1), color=figures.FAINT, linestyle=":")
        cosines = np.stack([grams[name][case].mean(0)[upper] for name in names])
        for pair, colour in zip(cosines.T, figures.COLOURS, strict=False):
            axes.plot(range(3), pair, "o-", color=colour)
        axes.set_xticks(range(3), names)
        axes.set(xlim=(-0.4, 2.4), ylim=(-1.05, 1.05), title=CASES[case])
    figure.axes[0].set(ylabel="cosine of two classes")
