"""Classes collapse onto a simplex, soon only if features have a price.

Past zero training error the last features h and the classifier W tend to (Papyan, Han &
Donoho 2020, arXiv:2008.08186)

    NC1  every h to its class mean,           tr(Σ_W Σ_B†)/C → 0
    NC2  centred means of one length, at equal angles: all cosines −1/(C−1)
    NC3  W to the means, up to scale,         ‖W/‖W‖ − M/‖M‖‖ → 0
    NC4  the classifier to the nearest class mean.

With ½λ(E‖h‖² + ‖W‖² + ‖b‖²) added to the cross-entropy, and h free, every minimum is
this one (Zhu et al. 2021, arXiv:2105.02375). Cross-entropy alone has no minimum: W and
h grow for ever, and the angles follow slowly.

In the figure two runs each on 300 digits, soon classified without error: with the
penalty all falls by orders of magnitude, without it hardly anything but NC4.
"""

import jax
import jax.numpy as jnp
import numpy as np

from experiments import figure as figures
from experiments import outcome, training
from rl_jax import data, evaluate, methods, networks

SECTION = "12.3"
TITLE = "Neural collapse, with and without a penalty on features"
_NAMES = {
    "within": "NC1, spread within classes",
    "equinorm": "NC2, lengths",
    "angle": "NC2, |cosine + 1/(C−1)|",
    "duality": "NC3, classifier and means",
    "nearest": "NC4, disagreement",
}


def run(
    *,
    seeds: int = 2,
    steps: int = 1000,
    penalty: float = 0.01,
    per_class: int = 30,
) -> outcome.Outcome:
    """Trains classifiers of digits with and without the penalty, on all at once.

    Args:
      seeds: networks of each.
      steps: of Adam, a multiple of 25.
      penalty: λ > 0; without it is the other half.
      per_class: images of each of ten classes.
    """
    source = data.digits()
    classes = range(len(source.class_names))
    rows = [np.flatnonzero(source.labels == c)[:per_class] for c in classes]
    images = source.images[np.concatenate(rows)].reshape(-1, 64) / 255
    label = np.repeat(classes, per_class).astype(np.int32)
    batch = {"image": jnp.asarray(images, jnp.float32), "label": jnp.asarray(label)}
    found = {}
    for name, weight in (("with", penalty), ("without", 0.0)):
        features, classifier = _train(weight, batch, seeds, steps)
        found[name] = [
            [
                _measured(h, label, kernel, bias)
                for h, kernel, bias in zip(*of_seed, strict=True)
            ]
            for of_seed in zip(
                features, classifier["kernel"], classifier["bias"], strict=True
            )
        ]
    measures = {
        name: {
            m: np.array([[one[m] for one in row] for row in rows]) for m in rows[0][0]
        }
        for name, rows in found.items()
    }
    last = {
        name: {m: values[:, -1] for m, values in each.items()}
        for name, each in measures.items()
    }
    done, plain = last["with"], last["without"]
    step = np.arange(len(found["with"][0])) * (steps // 25)
    accuracy = np.concatenate([each["accuracy"] for each in measures.values()])
    right = step[np.argmax((accuracy == 1).all(0))]
    return outcome.Outcome(
        checks=(
            *(
                outcome.at_most(f"{_NAMES[m]}, with penalty", done[m], 0.02)
                for m in ("within", "equinorm", "angle", "duality")
            ),
            outcome.at_most(f"{_NAMES['nearest']}, with penalty", done["nearest"], 0),
            *(
                outcome.at_most(
                    f"{_NAMES[m]}, end / start, with penalty",
                    done[m] / measures["with"][m][:, 0],
                    0.05,
                )
                for m in ("within", "equinorm", "angle", "duality")
            ),
            outcome.at_most(
                f"{_NAMES['nearest']}, largest rise between records, with penalty",
                np.diff(measures["with"]["nearest"]).max(),
                0.01,
            ),
            outcome.at_least(f"{_NAMES['angle']}, without", plain["angle"], 0.3),
            outcome.at_least(f"{_NAMES['within']}, without", plain["within"], 0.1),
            outcome.equal(
                "training accuracy, with and without",
                [done["accuracy"], plain["accuracy"]],
                1.0,
                tolerance=0,
            ),
        ),
        data={"step": step, "measures": measures},
        said=(
            f"After {steps} steps with λ = {penalty:g} angles are within "
            f"{done['angle'].max():.4f} of the simplex, NC1 is "
            f"{done['within'].max():.4f}, NC3 {done['duality'].max():.4f} and NC4 "
            f"{done['nearest'].max():g}. Every example is right by step {right}."
        ),
        correction=(
            "Interpolation and long training do not do it by themselves in any such "
            "time: without the penalty, at training accuracy 1, angles are still "
            f"{plain['angle'].min():.2f} from the simplex and NC1 is "
            f"{plain['within'].min():.2f}."
        ),
    )


def _train(penalty: float, batch, seeds: int, steps: int):
    """Features [seeds, 26, n, D] and classifiers, before every 25th part and after."""
    encoder = networks.mlp(features=(64, 64), out=32, batch_norm=False)
    method = methods.supervised(encoder, num_classes=10, feature_penalty=penalty)

    def train(rng):
        params, state = method.init(rng, batch)

        def loss(params, rng):
            return method.loss(params, state, batch, rng)[0]

        def record(params):
            return method.encode(params, state, batch)["h"], params["classifier"]

        params, records = training.minimise(
            loss, params, rng, steps=steps, every=steps // 25, record=record,
            optimizer=training.adam(5e-3, steps=steps),
        )  # fmt: skip
        return jax.tree.map(
            lambda r, last: jnp.concatenate([r, last[None]]), records, record(params)
        )

    rngs = jax.random.split(jax.random.key(0), seeds)
    features, classifier = jax.tree.map(np.asarray, jax.jit(jax.vmap(train))(rngs))
    (dense,) = classifier.values()
    return features, dense


def _measured(features, label, kernel, bias):
    """NC1 to NC4, and the accuracy."""
    found = evaluate.neural_collapse(features, label, kernel, bias)._asdict()
    right = (features @ kernel + bias[None]).argmax(1) == label
    return found | {"accuracy": right.mean()}


def draw(figure, found: outcome.Outcome) -> None:
    """Each measure against the step, with the penalty and without it."""
    left, right = figure.subplots(1, 2, sharey=True)
    d = found.data
    for axes, name in ((left, "with"), (right, "without")):
        for (measure, label), colour in zip(
            _NAMES.items(), figures.COLOURS, strict=False
        ):
            values = np.maximum(d["measures"][name][measure], 1e-4)
            figures.band(axes, d["step"], values, colour, label)
        axes.axhline(0.02, color=figures.FAINT, linestyle=":")
        axes.set(yscale="log", ylim=(8e-4, 6), xlabel="step")
        axes.set(title=f"{name} penalty on features")
    right.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
