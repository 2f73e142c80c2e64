"""A convolution over few positions: XLA's, and the product of its patches.

    python -m profiling.convolution [--rounds K] [--budget SECONDS]

Value and both gradients of layers as networks for tiny images have them, in interleaved
rounds, after the gradients agreed.
"""

import functools
import sys
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from profiling import arguments, results, timing
from rl_jax.networks.convolution import product

TITLE = "Convolutions over few positions"
XLA, PRODUCT = "XLA", "product"
PADDING = ((1, 1), (1, 1))


class Layer(NamedTuple):
    """A 3×3 convolution of square images."""

    side: int
    channels: int
    width: int
    stride: int

    @property
    def name(self) -> str:
        """`4×4×128 to 256, stride 2`."""
        return (
            f"{self.side}×{self.side}×{self.channels} to {self.width}, stride "
            f"{self.stride}"
        )


LAYERS = (
    Layer(8, 64, 128, 2),
    Layer(6, 128, 256, 2),
    Layer(4, 128, 256, 2),
    Layer(2, 256, 256, 1),
)
TINY = (Layer(4, 2, 3, 2),)


def main(argv: Sequence[str] | None = None) -> None:
    """Times, writes."""
    parser = arguments.Parser("convolution", __doc__.split("\n")[0])
    parser.add_argument("--tiny", action="store_true", help="one small layer")
    parser.add_argument("--rounds", type=arguments.positive, metavar="K")
    parser.add_argument(
        "--budget",
        type=arguments.positive,
        default=20,
        metavar="SECONDS",
        help="of each layer; decides the rounds where --rounds does not",
    )
    chosen = parser.parse_args(argv)
    batch = 8 if chosen.tiny else 512
    result = results.new("convolution", batch=batch, rounds=chosen.rounds)
    out = results.folder(chosen.out)
    for layer in TINY if chosen.tiny else LAYERS:
        timed = timing.interleave(
            contenders(layer, batch), seconds=chosen.budget, rounds=chosen.rounds
        )
        for contender, samples in timed.items():
            result["rows"].append(
                {"layer": layer.name, "contender": contender} | samples
            )
        results.save(result, out)
        print(layer.name, file=sys.stderr)
    results.finish(result, out)


def contenders(layer: Layer, batch: int) -> dict[str, timing.Contender]:
    """Value and gradients by both forms, once they agree."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(batch, layer.side, layer.side, layer.channels))
    kernel = rng.normal(size=(3, 3, layer.channels, layer.width))
    operands = [v.astype(np.float32) for v in (x, kernel)]

    def value(convolution, x, kernel):
        y = convolution(
            x,
            kernel,
            (layer.stride, layer.stride),
            PADDING,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return (y * y).mean()

    forms = {XLA: jax.lax.conv_general_dilated, PRODUCT: product}
    steps = {
        name: jax.jit(jax.value_and_grad(functools.partial(value, form), (0, 1)))
        for name, form in forms.items()
    }
    one, two = (jax.tree.leaves(step(*operands)) for step in steps.values())
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3 * float(abs(a).max()))
    return {name: timing.jax_contender(f, *operands) for name, f in steps.items()}


def tables(result: dict) -> list[str]:
    """A line for each layer."""
    rows = []
    for name, group in _groups(result).items():
        xla, product = (timing.summary(group[k])["median"] for k in (XLA, PRODUCT))
        rows.append(
            [
                name,
                results.milliseconds(xla),
                results.milliseconds(product),
                f"{xla / product:.1f}×",
            ]
        )
    header = [f"3×3, {result['settings']['batch']} images, ms", XLA, PRODUCT, "faster"]
    return [results.table(header, rows), "Value and both gradients; medians."]


def plot(figure, result: dict) -> None:
    """Milliseconds of each layer."""
    groups = _groups(result)
    axes = figure.subplots()
    place = np.arange(len(groups))
    for k, form in enumerate((XLA, PRODUCT)):
        values = [1e3 * timing.summary(g[form])["median"] for g in groups.values()]
        axes.barh(place + 0.2 * (2 * k - 1), values, 0.36, label=form)
    axes.set_yticks(place, list(groups))
    axes.set_xlabel("ms")
    figure.legend(loc="outside upper left", ncols=2)


def _groups(result: dict) -> dict[str, dict[str, list[float]]]:
    out: dict[str, dict[str, list[float]]] = {}
    for row in result["rows"]:
        out.setdefault(row["layer"], {})[row["contender"]] = row["seconds"]
    return out


if __name__ == "__main__":
    main()
