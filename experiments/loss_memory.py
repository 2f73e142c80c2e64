"""A contrastive batch costs 4N² bytes if the matrix is held, and 8Nd if it is not.

N = 2B views of d numbers have N² similarities. At B = 4096, d = 128 that is 8192² · 4
bytes = 268 MB, beside 4 MB of embeddings; 256 queries against MoCo's queue of 65,536
keys take 67 MB (He et al. 2020, arXiv:1911.05722). NT-Xent needs only the log-sum-exp
of each row, which can be summed tile by tile, as can its gradient: what remains is the
normalised rows and their gradient.

All numbers are the compiler's own, for the value and its gradient by both views. It is
asked for arguments that do not exist: nothing here is run.

In the figure both axes are logarithmic: dense memory rises with slope 2 and leaves any
machine behind, streaming with slope 1, as the embeddings themselves do.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from experiments import figure as figures
from experiments import outcome
from rl_jax import losses
from rl_jax.pairwise import Implementation

SECTION = "11.1"
TITLE = "What a large contrastive batch costs in memory"
_CARD = 80e9


def run(
    *,
    batch_sizes: tuple[int, ...] = (2**8, 2**12, 2**16, 2**20),
    dim: int = 128,
    copies: int = 1,
    implementation: Implementation = "xla",
) -> outcome.Outcome:
    """Compiles NT-Xent, dense and streaming, for growing batches.

    Args:
      batch_sizes: B, pairs of views; 4096 among them.
      dim: d, of the embeddings.
      copies: matrices N × N of the formula for the dense loss. The text counts two, one
        for the gradient.
      implementation: that of `pairwise.logsumexp` taken for streaming.
    """
    pairs = np.array(batch_sizes, np.int64)
    views = 2 * pairs

    def compiled(pairs, implementation):
        view = jax.ShapeDtypeStruct((pairs, dim), jnp.float32)
        loss = functools.partial(
            losses.nt_xent, temperature=0.1, implementation=implementation
        )
        return _memory(loss, view, view)

    dense = [compiled(b, "dense") for b in batch_sizes]
    streaming = [compiled(b, implementation) for b in batch_sizes]
    held = np.array([m.temp_size_in_bytes for m in dense], np.float64)
    streamed = np.array([m.temp_size_in_bytes for m in streaming], np.float64)
    given = np.array([m.argument_size_in_bytes for m in dense], np.float64)
    rows = 4 * views * dim
    least = 2 * rows
    formula = 4.0 * copies * views**2 + 3 * rows
    bound = least + 64 * views + 16e6

    queue = _queue(dim)
    at = batch_sizes.index(4096)
    return outcome.Outcome(
        checks=(
            outcome.equal(
                "embeddings at B = 4096",
                given[at] / 1e6,
                4.194,
                tolerance=0.01,
                unit="MB",
            ),
            outcome.equal(
                "dense at B = 4096, but for three arrays of rows",
                (held[at] - 3 * rows[at]) / 1e6,
                268.4,
                tolerance=2.7,
                unit="MB",
            ),
            outcome.at_most(
                "|dense / (4N² + 12Nd) − 1|, every B", abs(held / formula - 1), 0.02
            ),
            outcome.equal(
                "256 queries against 65,536 keys, but for the keys' rows",
                queue / 1e6,
                67.1,
                tolerance=0.34,
                unit="MB",
            ),
            outcome.at_most(
                "streaming / (8Nd + 64N bytes + 16 MB), every B", streamed / bound, 1.0
            ),
            outcome.at_least("streaming / 8Nd, every B", streamed / least, 1.0),
            # 64 bytes a row beside the 8d are 8/d of them.
            outcome.at_most(
                "|streaming / 8Nd − 1|, the largest B",
                abs(streamed / least - 1)[pairs.argmax()],
                8 / dim,
            ),
        ),
        data={
            "pairs": pairs,
            "dense": held,
            "streaming": streamed,
            "rows": rows,
            "formula": formula,
        },
        said=(
            f"At B = 4096 dense takes {held[at] / 1e6:.0f} MB beside "
            f"{given[at] / 1e6:.1f} MB of embeddings, streaming "
            f"{streamed[at] / 1e6:.0f} MB; at B = {batch_sizes[-1]:,} "
            f"{held[-1] / 1e12:.1f} TB and {streamed[-1] / 1e9:.1f} GB."
        ),
        correction=(
            "The backward pass needs no second matrix: compiled, value and gradient "
            f"take {held[at] / (4 * views[at] ** 2):.2f} N × N matrices at B = 4096. "
            "And none need be held: the quadratic cost is one of time alone."
        ),
    )


def _memory(loss, *arguments):
    value_and_grad = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))
    return value_and_grad.lower(*arguments).compile().memory_analysis()


def _queue(dim: int) -> float:
    """Bytes that MoCo's loss holds beside its normalised queue."""
    keys = jax.ShapeDtypeStruct((65_536, dim), jnp.float32)
    query = jax.ShapeDtypeStruct((256, dim), jnp.float32)

    def loss(query, key, queue):
        return losses.info_nce(
            query, key, queue, temperature=0.2, implementation="dense"
        )

    found = _memory(loss, query, query, keys).temp_size_in_bytes
    return found - 4.0 * keys.shape[0] * dim


def draw(figure, found: outcome.Outcome) -> None:
    """Bytes against the batch, dense and streaming."""
    axes = figure.subplots()
    d = found.data
    pairs = d["pairs"]
    for name, label, colour in (
        ("formula", "4N² + 12Nd", figures.FAINT),
        ("dense", "dense", figures.COLOURS[1]),
        ("streaming", "streaming", figures.COLOURS[0]),
        ("rows", "the embeddings, 4Nd", figures.COLOURS[6]),
    ):
        mark = "-" if name == "formula" else "o" if name == "dense" else "o-"
        axes.plot(pairs, d[name], mark, color=colour, label=label)
    axes.axhline(_CARD, color=figures.FAINT, linestyle=":")
    axes.text(pairs[0], 1.3 * _CARD, "memory of one large accelerator, 80 GB")
    axes.set(xscale="log", yscale="log", xlabel="pairs in a batch, B", ylabel="bytes")
    axes.set(title="memory of NT-Xent and its gradient, d = 128, as compiled")
    axes.set_xticks(pairs, [f"{b:,}" for b in pairs])
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
