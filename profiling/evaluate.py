"""Evaluation of frozen features: time beside scikit-learn, passes over the data.

    python -m profiling.evaluate [--quick] [--only knn|probe|cka] [--rounds K]

Nearest neighbours beside `KNeighborsClassifier` (brute force, the same votes); one
compiled path of logistic regressions beside as many `LogisticRegression` fits; one map
of CKAs beside a call for each pair. In interleaved rounds, after each agreed.
"""

import importlib.metadata
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from profiling import arguments, inputs, results, timing
from rl_jax import evaluate
from rl_jax.evaluate.axes import to_axes
from rl_jax.evaluate.knn import predict
from rl_jax.evaluate.regression import logistic_path

TITLE = "Evaluation of frozen features"
OURS, SKLEARN, PAIRS = "rl_jax", "scikit-learn", "rl_jax, pair by pair"
TEMPERATURE = 0.07


class Task(NamedTuple):
    """What is measured, its sizes, and how much faster it is meant to be."""

    name: str
    sizes: dict[str, int]
    target: float | None


FULL = (
    Task("knn", {"bank": 50_000, "queries": 10_000, "dim": 512, "k": 20}, 2.0),
    Task("probe", {"n": 1_400, "dim": 256, "strengths": 20, "draws": 5}, 5.0),
    Task("cka", {"layers": 20, "n": 5_000, "dim": 256}, None),
)
QUICK = (
    Task("knn", {"bank": 10_000, "queries": 1_000, "dim": 128, "k": 20}, None),
    Task("probe", {"n": 500, "dim": 64, "strengths": 10, "draws": 3}, None),
    Task("cka", {"layers": 4, "n": 1_000, "dim": 64}, None),
)


class Entry(NamedTuple):
    """One contender: its answer, and the same timed."""

    answer: Callable[[], object]
    temp_bytes: int | None = None

    def run(self, calls: int) -> float:
        """Seconds of one call; an answer is on the host, so nothing is awaited."""
        start = time.perf_counter()
        for _ in range(calls):
            self.answer()
        return (time.perf_counter() - start) / calls


def main(argv: Sequence[str] | None = None) -> None:
    """Checks, times, writes."""
    parser = arguments.Parser("evaluate", __doc__.split("\n")[0])
    parser.add_quick()
    names = sorted({t.name for t in FULL})
    parser.add_argument("--only", choices=names, help="one of the measures")
    parser.add_argument("--rounds", type=arguments.positive, metavar="K")
    parser.add_argument(
        "--budget",
        type=arguments.positive,
        metavar="SECONDS",
        help="for each task, where --rounds does not decide; default 120, quick 5",
    )
    chosen = parser.parse_args(argv)
    budget = chosen.budget or (5 if chosen.quick else 120)
    result = results.new("evaluate", rounds=chosen.rounds, budget_seconds=budget)
    result["machine"]["versions"][SKLEARN] = importlib.metadata.version(SKLEARN)
    out = results.folder(chosen.out)
    for task in QUICK if chosen.quick else FULL:
        if chosen.only in (None, task.name):
            result["rows"] += measured(task, rounds=chosen.rounds, seconds=budget)
            results.save(result, out)
            print(_title(task._asdict()), file=sys.stderr)
    results.finish(result, out)
    wrong = [r for r in result["rows"] if r["error"]]
    if wrong:
        name = _title(wrong[0]["task"])
        print(f"profiling.evaluate: {name}: {wrong[0]['error']}", file=sys.stderr)
        sys.exit(1)


def measured(task: Task, *, rounds: int | None, seconds: float) -> list[dict]:
    """One row for each contender, timed only where they agree."""
    entries, compare = MEASURES[task.name](**task.sizes)
    answers = {name: entry.answer() for name, entry in entries.items()}
    facts, error = compare(*answers.values())
    timed = {}
    if error is None:
        runs = {name: entry.run for name, entry in entries.items()}
        timed = timing.interleave(runs, seconds=seconds, rounds=rounds)
    return [
        {
            "task": task._asdict(),
            "contender": name,
            "temp_bytes": entry.temp_bytes,
            "facts": facts,
            "error": error,
        }
        | timed.get(name, {"seconds": [], "calls": 0})
        for name, entry in entries.items()
    ]


def knn(*, bank: int, queries: int, dim: int, k: int):
    """Accuracy from the vote of the k nearest, of 10 classes that overlap."""
    from sklearn.neighbors import KNeighborsClassifier

    x, labels = clusters(bank + queries, dim, classes=10, seed=0)
    q, test = x[bank:], labels[bank:]
    x, labels = x[:bank], labels[:bank]

    def ours():
        return evaluate.knn_accuracy(x, labels, q, test, k=k, temperature=TEMPERATURE)

    def weigh(distance):
        return np.exp(-distance / TEMPERATURE)

    model = KNeighborsClassifier(k, weights=weigh, algorithm="brute", metric="cosine")
    model.fit(x, labels)

    def theirs():
        return float(model.score(q, test))

    arrays = (jnp.asarray(v) for v in (x, labels, q))
    plan = predict.lower(*arrays, TEMPERATURE, k=k, num_classes=10).compile()
    temp = plan.memory_analysis().temp_size_in_bytes

    def compare(a, b):
        wrong = None if abs(a - b) < 1e-3 else f"accuracies differ: {a}, {b}"
        return f"accuracies {a:.4f} and {b:.4f}", wrong

    return {OURS: Entry(ours, temp), SKLEARN: Entry(theirs)}, compare


def probe(*, n: int, dim: int, strengths: int, draws: int):
    """Every strength on every draw of 10 classes, scored on as many test examples."""
    from sklearn.linear_model import LogisticRegression

    x, labels = clusters(3 * n, dim, classes=10, seed=0, standard=True)
    test_x, test = x[2 * n :], labels[2 * n :]
    x, labels = x[: 2 * n], labels[: 2 * n]
    chosen = evaluate.label_draws(labels, n // 10, draws, 0)
    l2 = np.logspace(0, -4, strengths)

    def ours():
        # As `evaluate.linear_probe` does: in the axes of each draw.
        means = [x[i].mean(0) for i in chosen]
        drawn = zip(chosen, means, strict=True)
        rotated, bases = zip(*(to_axes(x[i] - m) for i, m in drawn), strict=True)
        path = logistic_path(
            np.stack(rotated).astype(np.float32),
            labels[chosen],
            np.ones((draws, 1, chosen.shape[1]), np.float32),
            l2.astype(np.float32),
            num_classes=10,
        )
        weights = np.einsum("rde,lrec->lrdc", bases, np.asarray(path.weights)[:, :, 0])
        bias = path.bias[:, :, 0] - np.einsum("rd,lrdc->lrc", means, weights)
        return weights, np.asarray(bias)

    def theirs():
        fits = []
        for strength in l2:
            # The gradient at which `logistic_path` stops; at their own 1e-4 weak
            # strengths would end a few percent above the minimum.
            tol, c = 1e-3 * np.sqrt(strength), 1 / (chosen.shape[1] * strength)
            for i in chosen:
                model = LogisticRegression(C=c, tol=tol, max_iter=5000)
                model.fit(x[i], labels[i])
                fits.append((model.coef_.T, model.intercept_))
        found = (np.stack(v) for v in zip(*fits, strict=True))
        return tuple(v.reshape(strengths, draws, *v.shape[1:]) for v in found)

    def compare(a, b):
        values, accuracies = [], []
        for weights, bias in (a, b):
            values.append(_objectives(x, labels, chosen, l2, weights, bias))
            logits = np.einsum("nd,lrdc->lrnc", test_x, weights) + bias[:, :, None]
            accuracies.append((logits.argmax(-1) == test).mean(-1))
        best = np.minimum(*values)
        excess = [float(((v - best) / best).max()) for v in values]
        apart = float(np.abs(accuracies[0] - accuracies[1]).max())
        facts = (
            f"objectives at most {excess[0]:.0e} and {excess[1]:.0e} above the better "
            f"one, accuracies at most {apart:.4f} apart, {accuracies[0].max():.3f} best"
        )
        wrong = excess[0] > 1e-3 or apart > max(0.01, 2.5 / len(test))
        return facts, facts if wrong else None

    return {OURS: Entry(ours), SKLEARN: Entry(theirs)}, compare


def cka(*, layers: int, n: int, dim: int):
    """All pairs of layers, in one pass over the rows and in a pass for each pair.

    Pair by pair it is a call for each ordered pair, as a loop over two networks makes;
    one over a single network could spare nearly half of them, CKA being symmetric.
    """
    rng = np.random.default_rng(0)
    stack = [Counted(rng.standard_normal((n, dim), np.float32))]
    for _ in range(layers - 1):
        mixing = rng.standard_normal((dim, dim), np.float32) / np.sqrt(dim)
        stack.append(Counted(np.maximum(stack[-1].rows @ mixing, 0) * np.sqrt(2)))

    def together():
        return evaluate.cka_map(stack)

    def one_by_one():
        return np.array([[evaluate.linear_cka(x, y) for y in stack] for x in stack])

    def reads(call):
        for x in stack:
            x.read = 0
        call()
        return sum(x.read for x in stack) / (layers * n)

    passes = reads(together), reads(one_by_one)

    def compare(a, b):
        apart = float(np.abs(a - b).max())
        facts = (
            f"{passes[0]:.0f} and {passes[1]:.0f} passes over the rows of all layers, "
            f"at most {apart:.0e} apart"
        )
        return facts, facts if apart > 1e-5 or passes[0] != 1 else None

    return {OURS: Entry(together), PAIRS: Entry(one_by_one)}, compare


MEASURES = {"knn": knn, "probe": probe, "cka": cka}


class Counted:
    """Rows [n, D] that count how many of them are read."""

    def __init__(self, rows: np.ndarray):
        self.rows, self.read = rows, 0
        self.ndim, self.shape = rows.ndim, rows.shape

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, part):
        found = self.rows[part]
        self.read += len(found)
        return found


def clusters(n: int, dim: int, *, classes: int, seed: int, standard: bool = False):
    """Rectified features of classes that overlap, and their labels, in equal shares.

    Unit rows, or columns of mean 0 and variance 1.
    """
    rng = np.random.default_rng(seed)
    labels = (np.arange(n) % classes).astype(np.int32)
    rng.shuffle(labels)
    hidden = rng.standard_normal((classes, 32), np.float32)[labels]
    hidden = 0.8 * hidden + rng.standard_normal((n, 32), np.float32)
    mixing = rng.standard_normal((32, dim), np.float32) / np.sqrt(32)
    x = np.maximum(hidden @ mixing, 0)
    if not standard:
        return inputs.unit(x), labels
    return (x - x.mean(0)) / np.maximum(x.std(0), 1e-6), labels


def _objectives(x, labels, chosen, l2, weights, bias) -> np.ndarray:
    """Mean cross-entropy + l2/2·‖W‖² in float64 [L, R]."""
    out = np.empty(weights.shape[:2])
    for i, r in np.ndindex(*out.shape):
        w = weights[i, r].astype(np.float64)
        z = x[chosen[r]].astype(np.float64) @ w + bias[i, r]
        z -= z.max(1, keepdims=True)
        own = z[np.arange(len(z)), labels[chosen[r]]]
        loss = np.mean(np.log(np.exp(z).sum(1)) - own)
        out[i, r] = loss + l2[i] / 2 * np.square(w).sum()
    return out


def tables(result: dict) -> list[str]:
    """Each task with its medians, the ratio, and what was checked."""
    header = ["ms, median", "rl_jax", "other", "ratio", "aim", "rl_jax temp MiB"]
    rows, notes = [], []
    for task, ours, other in _pairs(result["rows"]):
        title = _title(task)
        notes.append(f"- {title}: {other['contender']}; {ours['facts']}.")
        if ours["error"]:
            rows.append([title, *["wrong"] * 2, *["–"] * 3])
            continue
        a, b = (timing.summary(r["seconds"]) for r in (ours, other))
        rows.append([
            title,
            *(f"{results.milliseconds(s['median'])} ± {100 * s['spread']:.0f} %"
              for s in (a, b)),
            f"{b['median'] / a['median']:.1f}×",
            f"{task['target']:.0f}×" if task["target"] else "–",
            results.mebibytes(ours["temp_bytes"]),
        ])  # fmt: skip
    told = "The other contender, and what was compared before anything was timed:"
    return [results.table(header, rows), told, "\n".join(notes)]


def plot(figure, result: dict) -> None:
    """How many times faster, a bar for each task."""
    tasks = [p for p in _pairs(result["rows"]) if not p[1]["error"]]
    ratios = [
        np.median(other["seconds"]) / np.median(ours["seconds"])
        for _, ours, other in tasks
    ]
    ax = figure.subplots()
    place = np.arange(len(tasks))[::-1]
    ax.barh(place, ratios, height=0.5, color=results.COLOURS[0])
    for y, (task, *_) in zip(place, tasks, strict=True):
        if task["target"]:
            ax.plot([task["target"]] * 2, [y - 0.35, y + 0.35], color="black")
    ax.set_yticks(place, [_title(task) for task, *_ in tasks])
    ax.set_xlabel("times faster than the other; a line where an aim was set")


def _pairs(rows: Sequence[dict]):
    """(task, our row, the other row)."""
    for ours, other in zip(rows[::2], rows[1::2], strict=True):
        yield ours["task"], ours, other


def _title(task: dict) -> str:
    sizes = ", ".join(f"{k} {v:,}" for k, v in task["sizes"].items())
    return f"{task['name']}: {sizes}"


if __name__ == "__main__":
    main()
