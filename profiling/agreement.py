"""Our losses, methods, optimizers and encoders beside the same of other libraries.

    python -m profiling.agreement [--out DIR] [--only WORD] [--seed K]

Values and gradients on fresh random inputs: ours in float32, theirs in float64. Where
conventions differ the row says how, and theirs is multiplied by what follows from the
two definitions. Ends with 1 where a row differs by more than 1e-5. Nothing is timed.
"""

import contextlib
import os
import sys
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from profiling import arguments, cases, results
from profiling.cases import of_encoders, of_losses, of_masks, of_training
from profiling.peers import WORKER, PeerError, TorchPeer

TITLE = "Agreement with other libraries"
CASES = of_losses.CASES + of_masks.CASES + of_training.CASES + of_encoders.CASES
TOLERANCE = 1e-5
"""Of the value and of each gradient, relative to the largest entry of theirs."""
SHARED = results.ROOT / "any-device"
"""What a machine does not change."""


def main(argv: Sequence[str] | None = None) -> None:
    """Compares, writes; exit code 1 where something differs or fails."""
    parser = arguments.Parser("agreement", __doc__.split("\n")[0])
    parser.add_torch()
    parser.add_argument("--only", metavar="WORD", help="rows whose name has this word")
    parser.add_argument(
        "--seed", type=int, default=None, metavar="K", help="default: a fresh one"
    )
    chosen = parser.parse_args(argv)
    seed = int.from_bytes(os.urandom(3)) if chosen.seed is None else chosen.seed
    wanted = [c for c in CASES if (chosen.only or "").lower() in c.name.lower()]
    if not wanted:
        parser.error(f"no row has {chosen.only!r} in its name")
    result = results.new("agreement", seed=seed, tolerance=TOLERANCE)
    result["notes"] = []  # of the load, which matters to times alone
    with contextlib.ExitStack() as stack:
        torch = started(chosen.torch_python, result, stack)
        for case in wanted:
            result["rows"] += compared(case, torch, seed)
            print(case.name, file=sys.stderr)
    results.finish(result, chosen.out or SHARED)
    wrong = [row for row in result["rows"] if row["error"]]
    for row in wrong:
        print(
            f"profiling.agreement: {row['name']}, {row['library']} {row['peer']}: "
            f"{row['error']}",
            file=sys.stderr,
        )
    if wrong:
        sys.exit(1)


def started(python: str | None, result: dict, stack: contextlib.ExitStack):
    """PyTorch's process, or None; what is there is in `result["machine"]`."""
    if python is None:
        result["notes"].append(
            "RL_JAX_TORCH_PYTHON is not set: libraries of PyTorch are missing."
        )
        return None
    script = WORKER.with_name("torch_agreement.py")
    try:
        torch = stack.enter_context(TorchPeer(python, worker=script))
    except PeerError as error:
        result["notes"].append(f"Libraries of PyTorch are missing: {error}.")
        return None
    result["torch"] = torch.info
    return torch


def compared(case: cases.Case, torch: TorchPeer | None, seed: int) -> list[dict]:
    """A row for each peer of a case."""
    arrays = case.inputs(np.random.default_rng(seed))
    return [_row(case, peer, arrays, torch) for peer in case.peers]


def _row(case: cases.Case, peer: cases.Peer, arrays, torch: TorchPeer | None) -> dict:
    row = {
        "name": case.name,
        "library": peer.library,
        "peer": peer.name,
        "convention": peer.convention,
        "factor": peer.factor,
        "version": None,
        "ours": None,
        "theirs": None,
        "value_error": None,
        "gradient_error": None,
        "error": None,
    }
    row["version"] = _version(peer, torch)
    if row["version"] is None:
        return row
    options = case.options
    ours, our_grads = _inside(case.ours, case.wrt, arrays, options | peer.ours)
    try:
        if peer.inside:
            theirs, grads = _inside(peer.inside, case.wrt, arrays, options)
        else:
            assert torch
            theirs, grads = torch.compare(
                peer.name, arrays, wrt=case.wrt, options=options
            )
    except (PeerError, TypeError, ValueError) as error:
        return row | {"error": " ".join(str(error).split())[:300]}
    grads = [peer.factor * np.asarray(g, np.float64) for g in grads]
    shapes = [[np.shape(g) for g in some] for some in (our_grads, grads)]
    if shapes[0] != shapes[1]:
        return row | {"error": f"shapes differ: {shapes[0]}, {shapes[1]}"}
    apart = max(map(_apart, our_grads, grads))
    if not case.wrt:
        # An array: its size stands for it.
        sizes = (_size(our_grads[0]), _size(grads[0]))
        row |= {"ours": sizes[0], "theirs": sizes[1], "value_error": apart}
    else:
        row |= {"ours": ours, "theirs": theirs, "gradient_error": apart}
        right = peer.factor * theirs
        # A mean of cosines may be next to 0, its rounding is not.
        row["value_error"] = abs(ours - right) / max(abs(right), 0.01)
    errors = (row["value_error"], row["gradient_error"])
    if not all(e <= TOLERANCE for e in errors if e is not None):
        value, gradient = map(_error_text, errors)
        row["error"] = f"value differs by {value}, gradient by {gradient}"
    return row


def _inside(function, wrt: int, arrays, options: dict):
    """`(value, [gradients])` of a function of JAX, or `(None, [the array itself])`."""

    def value(*arrays):
        return function(*arrays, **options)

    arrays = [jnp.asarray(x) for x in arrays]
    if not wrt:
        return None, [np.asarray(value(*arrays))]
    found, grads = jax.value_and_grad(value, tuple(range(wrt)))(*arrays)
    return float(found), [np.asarray(g) for g in grads]


def _version(peer: cases.Peer, torch: TorchPeer | None) -> str | None:
    """Of the library, "" where it tells none; None where it is not there."""
    if peer.inside:
        module = sys.modules.get(peer.library)
        return getattr(module, "__version__", "")
    return torch.info["packages"].get(peer.library) if torch else None


def _apart(found, expected) -> float:
    """Largest difference, as a share of the largest entry expected."""
    found, expected = (np.asarray(x, np.float64) for x in (found, expected))
    scale = np.abs(expected).max() or np.abs(found).max() or 1.0
    return float(np.abs(found - expected).max() / scale)


def _size(array: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(np.asarray(array, np.float64)))))


def tables(result: dict) -> list[str]:
    """A line for each row; what is missing says so."""
    lines = []
    for row in result["rows"]:
        missing = row["version"] is None
        told = "missing" if missing else row["version"]
        said = row["convention"]
        if row["factor"] != 1:
            said += f" (theirs × {row['factor']:.4g})"
        lines.append(
            [
                row["name"],
                f"{row['library']} {told}",
                f"`{row['peer']}`",
                said,
                _number(row["ours"]),
                _number(row["theirs"]),
                _error_text(row["value_error"]),
                _error_text(row["gradient_error"]),
                "–" if missing else "no" if row["error"] else "yes",
            ]
        )
    header = [
        "what", "library", "there", "convention", "ours", "theirs",
        "value apart", "gradient apart", "agrees",
    ]  # fmt: skip
    compared = [r for r in result["rows"] if r["version"] is not None]
    wrong = sum(bool(r["error"]) for r in compared)
    return [
        f"{len(compared)} rows compared, {len(compared) - wrong} agree within "
        f"{result['settings']['tolerance']:.0e}, {wrong} do not; "
        f"{len(result['rows']) - len(compared)} are missing. "
        f"Seed {result['settings']['seed']}.",
        results.table(header, lines, text=4),
        "Apart is the largest difference over the largest entry of theirs, after the "
        "factor (of a value below 0.01: over 0.01); ours is float32, theirs float64 of "
        "the same inputs. Of arrays "
        "(assignments, schedules, ways of optimizers) the root mean square stands in "
        "place of a value. A repository of the authors has its commit for a version.",
    ]


def _number(x: float | None) -> str:
    return "–" if x is None else f"{x:.6g}"


def _error_text(x: float | None) -> str:
    return "–" if x is None else f"{x:.1e}"


def plot(figure, result: dict) -> None:
    """How far apart each row is, beside what is allowed."""
    rows = [r for r in result["rows"] if r["value_error"] is not None]
    figure.set_size_inches(10, 1.2 + 0.22 * max(len(rows), 8))
    axes = figure.subplots()
    for kind, marker, colour in (
        ("value", "o", results.COLOURS[0]),
        ("gradient", "s", results.COLOURS[1]),
    ):
        errors = [r[f"{kind}_error"] for r in rows]
        places = [k for k, e in enumerate(errors) if e is not None]
        # What is equal to the last bit stands at the left edge.
        shown = [max(errors[k], 1e-9) for k in places]
        axes.plot(shown, places, marker, color=colour, label=kind)
    allowed = result["settings"]["tolerance"]
    axes.axvline(allowed, color=results.COLOURS[-1], linestyle="--", label="allowed")
    axes.set_yticks(range(len(rows)), [f"{r['name']}: {r['library']}" for r in rows])
    axes.margins(y=0.01)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("relative difference")
    figure.legend(loc="outside upper left", ncols=3)


if __name__ == "__main__":
    main()
