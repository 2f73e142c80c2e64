"""The SimCLR step: images a second, and where its time goes.

    python -m profiling.step [--only NAME ...] [--budget SECONDS] [--rounds K]
        [--torch-python PYTHON] [--no-torch] [--tiny]

ResNet-18 with the CIFAR stem at 32 pixels, ViT-S/16 and ResNet-50 at 224, in bfloat16,
the data set resident on the device, several steps in one compiled call. Beside the
whole step run programs that leave parts of it out; shares are differences of their
medians, all measured in the same interleaved rounds, PyTorch's step among them. All
programs of all networks are compiled first, side by side.
"""

import contextlib
import functools
import pathlib
import re
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.sharding import SingleDeviceSharding

from profiling import arguments, results, session, timing
from profiling.peers import PeerError, TorchPeer
from profiling.session import Bench, in_words, memory_limit, start_torch
from rl_jax import augment, methods, networks
from rl_jax.methods import tower
from rl_jax.train.step import init_train_state, step_keys, train_step
from rl_jax.types import Augment, Method, Network

TITLE = "The training step"

STEP, AUGMENT = "step", "augmentation"
FORWARD, BACKWARD, LOSS = "forward", "forward and backward", "with the loss"
PROBE = "step with the probe"
STAGES = (STEP, AUGMENT, FORWARD, BACKWARD, LOSS, PROBE)
"""The programs, each with a part more than another: see `shares`."""

PEERS = {
    "PyTorch compiled": "PyTorch compiled, augmentation",
    "PyTorch eager": "PyTorch eager, augmentation",
}
CONTENDERS = {STEP: AUGMENT} | PEERS
"""Whole steps, and the augmentation of each by itself."""

CLASSES = 10
RATE = 1e-3
GEMM_SHAPES = ((8192, 8192, 8192), (16384, 4096, 4096))
COLOUR = {"brightness": 0.8, "contrast": 0.8, "saturation": 0.8, "hue": 0.2}
LEAST_TO_COMPILE = 20
"""Seconds: with less at hand PyTorch is not asked to compile its step."""
LAST = 15
"""Seconds that timing one network takes: with less at hand it is left out."""
PAUSE = 0.02
"""Seconds of rest before a sample on an accelerator: no thread of ours spins there."""


class Config(NamedTuple):
    """What is trained on how much; plain values, so that it goes to the peer as is."""

    name: str
    title: str
    network: dict[str, Any]
    head: int  # hidden width of the projector
    source: int  # side of the images that lie on the device
    size: int  # side of the views
    images: int
    batch: int
    steps: int  # in one compiled call
    aim: float | None = None  # images a second
    dtype: str = "bfloat16"
    views: str = "simclr"  # see `augmentation`


CONFIGS = (
    Config(
        "resnet18", "ResNet-18, CIFAR stem, 32²",
        {"kind": "resnet", "depth": 18, "stem": "cifar"},
        head=512, source=32, size=32, images=50_000, batch=512, steps=10,
        aim=9_500, views="cifar",
    ),
    Config(
        "vit_s16", "ViT-S/16, 224²",
        {"kind": "vit", "width": 384, "depth": 12, "heads": 6, "patch": 16},
        head=512, source=256, size=224, images=4096, batch=256, steps=4,
        aim=1_700,
    ),
    Config(
        "resnet50", "ResNet-50, 224²",
        {"kind": "resnet", "depth": 50, "stem": "imagenet"},
        head=2048, source=256, size=224, images=4096, batch=256, steps=3,
    ),
)  # fmt: skip
TINY = (
    Config(
        "resnet18", "convolutions, 8²", {"kind": "convnet", "widths": (4,)},
        head=8, source=8, size=8, images=16, batch=8, steps=1, dtype="float32",
        views="flip",
    ),
    Config(
        "vit_s16", "ViT, 8²",
        {"kind": "vit", "width": 8, "depth": 1, "heads": 2, "patch": 4},
        head=8, source=8, size=8, images=16, batch=8, steps=2, views="flip",
    ),
)  # fmt: skip
"""The same on next to nothing, to try the script out."""


def main(argv: Sequence[str] | None = None) -> None:
    """Measures until done or out of budget."""
    parser = arguments.Parser("step", __doc__.split("\n")[0])
    parser.add_torch()
    names = [config.name for config in CONFIGS]
    parser.add_argument("--only", choices=names, nargs="+", metavar="NAME")
    session.add_arguments(parser)
    parser.add_argument(
        "--seconds",
        type=arguments.positive,
        default=20,
        metavar="S",
        help="of timing for each network",
    )
    parser.add_argument("--rounds", type=arguments.positive, metavar="K")
    parser.add_argument(
        "--torch-limit",
        type=arguments.positive,
        default=150,
        metavar="S",
        help="for PyTorch to compile each network; then it is timed without",
    )
    chosen = parser.parse_args(argv)
    bench = session.begin(parser, chosen, "step", rounds=chosen.rounds)
    bench.result["ceiling"] = None
    with contextlib.ExitStack() as stack:
        torch = None
        if not chosen.no_torch:
            torch = start_torch(chosen.torch_python, bench.result, stack)
        known = TINY if chosen.tiny else CONFIGS
        configs = [c for c in known if c.name in (chosen.only or names)]
        theirs = torch_steps(torch, configs, chosen.torch_limit) if torch else {}
        work = [Compiling(config) for config in configs]
        # Compiling disturbs what is being timed.
        timing_takes = len(work) * 1.5 * chosen.seconds
        wait_for(work, theirs, max(bench.left - timing_takes, 0))
        bench.attempt("bf16 products", functools.partial(ceiling, bench, chosen.tiny))
        for compiling in sorted(work, key=lambda c: not c.ready):
            measure = functools.partial(
                one,
                bench,
                compiling,
                theirs.get(compiling.config.name),
                seconds=chosen.seconds,
                rounds=chosen.rounds,
            )
            bench.attempt(compiling.config.title, measure, needs=LAST)
    results.finish(bench.result, bench.out)


def ceiling(bench: Bench, tiny: bool) -> None:
    """The best rate of a few large bf16 products, FLOP/s."""
    rates, rng = [], np.random.default_rng(0)
    for shape in GEMM_SHAPES:
        n, k, m = (64 if tiny else size for size in shape)
        a, b = (
            jnp.asarray(rng.standard_normal(s, np.float32), jnp.bfloat16)
            for s in ((n, k), (k, m))
        )
        run = timing.jax_contender(jax.jit(jnp.dot), a, b, queued=True)
        run(1)
        (timed,) = timing.interleave({"": run}, seconds=1, rounds=5, pause=0).values()
        rates.append(2 * n * k * m / min(timed["seconds"]))
    bench.result["ceiling"] = max(rates)


def one(
    bench: Bench, compiling: "Compiling", theirs: "TorchStep | None", **options
) -> None:
    """A row of the result; what could not be measured of it is named."""
    row = compiling.measured(theirs=theirs, **options)
    with _named(row["skipped"], "kernels of a step"):
        row["kernels"] = compiling.kernels()
    for name, reason in row.pop("skipped").items():
        bench.skip(f"{compiling.config.title}, {name}", reason)
    bench.result["rows"].append(row)
    free(theirs, compiling.config)


class Compiling:
    """The programs of a configuration, being compiled side by side.

    Args:
      config: what is trained.
      stages: which of `STAGES`.
    """

    def __init__(self, config: Config, stages: Collection[str] = STAGES):
        self.config, self._stages = config, stages
        self._run: timing.Contender | None = None
        self._made, make = programs(config)
        # Compiling lets go of Python's lock.
        self._pool = ThreadPoolExecutor(len(STAGES) + 3)
        self._data = {
            name: self._pool.submit(jax.jit(make[name]))
            for name in {self._made[name].data for name in stages}
        }
        self._ready = {
            name: self._pool.submit(
                prepare, self._made[name], make[self._made[name].data], config.steps
            )
            for name in stages
        }
        self._flops = self._pool.submit(model_flops, config)

    @property
    def futures(self) -> list[Future]:
        """All that is being made."""
        return [*self._ready.values(), *self._data.values()]

    @property
    def ready(self) -> bool:
        """Whether all is there."""
        return all(future.done() for future in self.futures)

    def measured(
        self,
        *,
        theirs: "TorchStep | None" = None,
        seconds: float,
        rounds: int | None = None,
    ) -> dict:
        """Times all programs in interleaved rounds; those not there yet are left out.

        Args:
          theirs: PyTorch's step; None: without it.
          seconds: what the rounds may take together.
          rounds: their number, if it is fixed.

        Returns:
          `seconds` of a step, every sample, by contender; `compile_seconds` and
          `temp_bytes` of each program; `flops` of a step; `skipped`, reasons by
          contender.
        """
        config = self.config
        found: dict[str, Any] = {
            "skipped": {}, "compile_seconds": {}, "temp_bytes": {},
        }  # fmt: skip
        runs: dict[str, timing.Contender] = {}
        for name in self._stages:
            with _named(found["skipped"], name):
                program = self._ready[name].result(timeout=0)
                found["compile_seconds"][name] = program.seconds
                found["temp_bytes"][name] = program.temp_bytes
                data = self._data[self._made[name].data].result(timeout=0)
                runs[name] = program.contender(data)
        if theirs:
            with _named(found["skipped"], "PyTorch"):
                contenders, found["torch"] = theirs.ready.result(timeout=0)
                for run in contenders.values():
                    run(1)
                runs |= contenders
        self._pool.shutdown(wait=False, cancel_futures=True)
        pause = 0.2 if jax.default_backend() == "cpu" else PAUSE
        timed = timing.interleave(runs, seconds=seconds, rounds=rounds, pause=pause)
        samples = {
            n: [s / config.steps for s in t["seconds"]] for n, t in timed.items()
        }
        with _named(found["skipped"], "flops"):
            found["flops"] = self._flops.result()
        self._run = runs.get(STEP)
        if self._run:
            text = self._ready[STEP].result().call.as_text()
            found["fused_attention"] = "$fmha" in text
        empty = {"flops": None, "torch": None, "kernels": []}
        return {**config._asdict(), **empty, **found, "seconds": samples}

    def kernels(self) -> list[dict]:
        """See `kernels`, once the step was measured; nothing on CPU or without it."""
        if jax.default_backend() == "cpu" or not self._run:
            return []
        text = self._ready[STEP].result().call.as_text()
        return kernels(self._run, text, self.config.steps)


class TorchStep(NamedTuple):
    """PyTorch's step of a configuration, being prepared in its process."""

    torch: TorchPeer
    ready: Future


def free(theirs: TorchStep | None, config: Config) -> None:
    """Lets PyTorch forget a step that was measured; its memory is needed by others."""
    if theirs and theirs.ready.done():
        with contextlib.suppress(PeerError):
            theirs.torch.drop_step(config.name)


def torch_steps(
    torch: TorchPeer, configs: Sequence[Config], limit: float
) -> dict[str, TorchStep]:
    """Those of all configurations, one after another, by name.

    Args:
      torch: PyTorch's process.
      configs: what is trained.
      limit: seconds that compiling may take for each; then it runs without.
    """
    pool = ThreadPoolExecutor(1)
    return {
        config.name: TorchStep(torch, pool.submit(peer, torch, config, limit))
        for config in configs
    }


def wait_for(
    work: Sequence[Compiling], theirs: Mapping[str, TorchStep], seconds: float
) -> None:
    """Until all is there, at most so long."""
    ours = [future for compiling in work for future in compiling.futures]
    wait([*ours, *(step.ready for step in theirs.values())], timeout=seconds)


def peer(torch: TorchPeer, config: Config, limit: float):
    """What times PyTorch's step and its augmentation, and what preparing it took."""
    facts, errors = {}, []
    # Compiled wherever that works: there is no C compiler behind every PyTorch.
    worth = torch.device != "cpu" and limit >= LEAST_TO_COMPILE
    for compiled in (True, False) if worth else (False,):
        try:
            facts = torch.prepare_step(config._asdict(), compile=compiled, limit=limit)
            break
        except PeerError as error:
            errors.append(str(error))
    else:
        raise PeerError("; ".join(errors))
    name, part = list(PEERS.items())[0 if compiled else 1]
    runs = {
        name: torch.step_contender(config.name, "step", config.steps),
        part: torch.step_contender(config.name, "augmentation", config.steps),
    }
    return runs, facts | {"compiled": compiled, "errors": errors}


@contextlib.contextmanager
def _named(skipped: dict[str, str], name: str):
    """What fails within is named, and the rest goes on."""
    try:
        yield
    except Exception as error:
        skipped[name] = in_words(error)


class Program(NamedTuple):
    """Some steps in one call: `body(carry, *data) -> carry`, again and again."""

    body: Callable
    first: Callable[[], Any]  # makes the first carry
    data: str  # a name of `data`


class Ready(NamedTuple):
    """A compiled program, its first carry, and what compiling it took."""

    call: Callable
    carry: Any
    seconds: float
    temp_bytes: int

    def contender(self, data: tuple) -> timing.Contender:
        """Seconds of one call; what a call returns is what the next one takes."""
        carry = self.carry

        def run(calls: int) -> float:
            nonlocal carry
            start = time.perf_counter()
            for _ in range(calls):
                carry = self.call(carry, *data)
            jax.block_until_ready(carry)
            return (time.perf_counter() - start) / calls

        run(1)
        return run


def prepare(program: Program, make: Callable[[], tuple], steps: int) -> Ready:
    """Compiles a program of so many steps.

    Raises:
      MemoryError: where it would not fit.
    """
    start = time.perf_counter()
    shapes = jax.eval_shape(lambda: (program.first(), *make()))
    compiled = looped(program.body, steps).lower(*shapes).compile()
    seconds = time.perf_counter() - start
    temp = compiled.memory_analysis().temp_size_in_bytes
    if temp > memory_limit():
        size = results.size_text(temp)
        raise MemoryError(f"the program plans {size}iB of temporaries")
    return Ready(compiled, jax.jit(program.first)(), seconds, temp)


def looped(body: Callable, steps: int) -> Callable:
    """The jitted call; the carry is donated."""

    def run(carry, *data):
        if steps == 1:
            return body(carry, *data)
        again = lax.scan(
            lambda carry, _: (body(carry, *data), None), carry, length=steps
        )
        return again[0]

    return jax.jit(run, donate_argnums=0)


def programs(config: Config) -> tuple[dict[str, Program], dict[str, Callable]]:
    """The program of each stage, and what makes the arrays that programs share.

    Nothing in a body may be the same in every step, or the compiler would move it out
    of the loop; and all that a step makes is carried on, or it would leave it out.
    """
    drawn = augmentation(config)
    method, encoder, projector = simclr(config)
    pieces = {"augment": drawn, "optimizer": optax.adamw(RATE)}

    def batch_of(images, rng):
        index = jax.random.randint(rng, (config.batch,), 0, config.images, jnp.int32)
        label = index % CLASSES
        return {"index": index, "image": images[index], "label": label}

    def state_of(method):
        images = jnp.zeros((config.images, config.source, config.source, 3), jnp.uint8)
        batch = batch_of(images, jax.random.key(1))
        return init_train_state(jax.random.key(0), batch, method=method, **pieces)

    def whole(method):
        def body(ts, images):
            batch = batch_of(images, jax.random.fold_in(ts.rng, ts.step))
            return train_step(ts, batch, method=method, **pieces)[0]

        return Program(body, functools.partial(state_of, method), "images")

    def augmented(carry, images):
        rng, _ = step_keys(jax.random.key(0), carry[0])
        views = drawn.views(rng, batch_of(images, rng))["views"]
        return carry[0] + 1, views

    def no_views():
        shape = (config.batch, 2, config.size, config.size, 3)
        return jnp.int32(0), jnp.zeros(shape, jnp.float32)

    def forward(carry, params, state, views):
        out, state = tower.apply(
            encoder, projector, params, state,
            tower.flatten_views(views + carry[0]), train=True,
        )  # fmt: skip
        return _small(out["z"]), out["z"], state

    def no_output():
        given = jax.eval_shape(data["given"])
        shapes = jax.eval_shape(forward, (jnp.float32(0),), *given)
        return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

    def differentiated(value):
        def body(carry, params, state, views):
            f = jax.value_and_grad(value, has_aux=True)
            (loss, state), grads = f(params, state, views + carry[0])
            return _small(loss), grads, state

        def first():
            ts = state_of(method)
            zeros = jax.tree.map(jnp.zeros_like, (ts.params, ts.state))
            return jnp.float32(0), *zeros

        return Program(body, first, "given")

    def no_loss(params, state, views):
        return weighted(config, encoder, projector)(params, state, views)

    def loss(params, state, views):
        rng = jax.random.key(3)  # SimCLR draws nothing
        value, aux = method.loss(params, state, {"views": views}, rng)
        return value, aux.state

    def given():
        ts = state_of(method)
        n, side = 2 * config.batch, config.size
        x = photographs(jax.random.key(4), n, side).astype(jnp.float32) / 64 - 2
        return ts.params, ts.state, x.reshape(config.batch, 2, side, side, 3)

    def images():
        rng = jax.random.key(5)
        return (photographs(rng, config.images, config.source),)

    data = {"images": images, "given": given}
    made = {
        STEP: whole(method),
        AUGMENT: Program(augmented, no_views, "images"),
        FORWARD: Program(forward, no_output, "given"),
        BACKWARD: differentiated(no_loss),
        LOSS: differentiated(loss),
        PROBE: whole(methods.with_probe(method, num_classes=CLASSES)),
    }
    return made, data


def _small(x: jax.Array) -> jax.Array:
    """A tiny number that the next step adds to its views: it must wait for this one."""
    return 1e-6 * jnp.tanh(jnp.mean(x))


def weighted(config: Config, encoder: Network, projector: Network) -> Callable:
    """A value of z that costs next to nothing: its mean with fixed random weights."""

    def value(params, state, views):
        x = tower.flatten_views(views)
        out, state = tower.apply(encoder, projector, params, state, x, train=True)
        weights = np.random.default_rng(0).standard_normal(out["z"].shape, np.float32)
        return jnp.mean(out["z"] * weights), state

    return value


def photographs(rng: jax.Array, n: int, side: int) -> jax.Array:
    """Smooth random images with a little noise, uint8 [n, side, side, 3]."""
    smooth, noise = jax.random.split(rng)
    coarse = jax.random.uniform(smooth, (n, 8, 8, 3))
    shape = (n, side, side, 3)

    def fine(args):
        coarse, rng = args
        image = jax.image.resize(coarse, shape[1:], "bilinear")
        image += 0.03 * jax.random.normal(rng, shape[1:])
        return jnp.round(255 * jnp.clip(image, 0, 1)).astype(jnp.uint8)

    # In parts: in float32 all at once would be gigabytes.
    return lax.map(fine, (coarse, jax.random.split(noise, n)), batch_size=256)


def augmentation(config: Config) -> Augment:
    """SimCLR's views: of CIFAR, without blur, or of photographs; or flips alone."""
    if config.views == "flip":
        return augment.views(augment.random_flip)
    if config.views == "cifar":
        return augment.cifar(size=config.size)
    return augment.imagenet(
        size=config.size, blur=(0.5, 0.5), solarise=(0.0, 0.0), **COLOUR
    )


def simclr(config: Config) -> tuple[Method, Network, Network]:
    """The method and the two networks it is made of."""
    projector = networks.projection_head(hidden=config.head, out=128)
    kind, options = config.network["kind"], {**config.network}
    del options["kind"]
    if kind == "convnet":
        encoder = networks.convnet(**options)
    elif kind == "resnet":
        encoder = networks.resnet(dtype=config.dtype, **options)
    else:
        encoder = networks.vit(dtype=config.dtype, **options)
    return methods.simclr(encoder, projector), encoder, projector


def kernels(run: timing.Contender, text: str, steps: int, *, most: int = 150):
    """What the device did in one call, by XLA's instruction, the longest first.

    Args:
      run: times the calls of a program.
      text: of the compiled program, which names the operation of each instruction.
      steps: in one call.
      most: how many are kept.

    Returns:
      Records of `name`, `op`, milliseconds `ms` and `count`, both of one step.
    """
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            run(1)
        (path,) = pathlib.Path(folder).rglob("*.xplane.pb")
        planes = jax.profiler.ProfileData.from_file(str(path)).planes
        return summed(planes, operations(text), steps)[:most]


def operations(text: str) -> dict[str, str]:
    """The operation, as jax names it, of each instruction of a compiled program."""
    found = re.findall(r'%([\w.-]+) = .*op_name="([^"]*)"', text)
    return {name.replace("-", "_").replace(".", "_"): op for name, op in found}


def summed(planes, ops: Mapping[str, str], steps: int) -> list[dict]:
    """Kernels of a trace by instruction; those of one instruction are added up."""
    total: dict[str, list[float]] = {}
    for plane in planes:
        for line in plane.lines if "GPU" in plane.name else ():
            if not line.name.startswith("Stream"):
                continue  # the same time once more, by module or by operation
            for event in line.events:
                name = dict(event.stats).get("hlo_op")
                if not name or name.startswith("command_buffer"):
                    name = event.name  # many kernels, launched at once
                total.setdefault(str(name), []).append(event.duration_ns)
    rows = [
        {
            "name": name,
            "op": ops.get(name.replace("-", "_").replace(".", "_"), ""),
            "ms": sum(times) / steps / 1e6,
            "count": len(times) / steps,
        }
        for name, times in total.items()
    ]
    return sorted(rows, key=lambda row: -row["ms"])


def model_flops(config: Config) -> float:
    """Of forward and backward of the network in one step, by XLA's count.

    Without augmentation, loss and optimizer. Counted before optimisation and for the
    CPU, so that it is the same everywhere. XLA counts the body of a loop once: what is
    counted here has none.
    """
    _, encoder, projector = simclr(config)
    made, data = programs(config)
    cpu = jax.devices("cpu")[0]
    place = SingleDeviceSharding(cpu)
    shapes = jax.tree.map(
        lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=place),
        jax.eval_shape(data["given"]),
    )
    f = jax.value_and_grad(weighted(config, encoder, projector), has_aux=True)
    # Products inside a fused kernel of a GPU, XLA would not see.
    with jax.default_device(cpu):
        return jax.jit(f).lower(*shapes).cost_analysis()["flops"]


def shares(seconds: Mapping[str, float]) -> dict[str, float]:
    """Seconds of the parts of a step, from those of its programs.

    Optimizer is what is left of the whole step: the update, the diagnostics, the guard
    against values that are not finite, and what the compiler fuses better or worse.
    """
    s = {**seconds}
    parts = {
        "augmentation": (AUGMENT, ()),
        "forward": (FORWARD, ()),
        "backward": (BACKWARD, (FORWARD,)),
        "loss": (LOSS, (BACKWARD,)),
        "optimizer": (STEP, (AUGMENT, LOSS)),
        "probe": (PROBE, (STEP,)),
    }
    return {
        part: s[whole] - sum(s[name] for name in without)
        for part, (whole, without) in parts.items()
        if {whole, *without} <= {*s}
    }


def tables(result: dict) -> list[str]:
    """Rates, shares, compilation, and what was skipped."""
    out, rows = [], result["rows"]
    if rows:
        out += [table(rows, result["ceiling"]), _parts_table(rows), _compiled(rows)]
    out += [kernels_table(row) for row in rows if row["kernels"]]
    if result["ceiling"]:
        rate = results.significant(result["ceiling"] / 1e12)
        out.append(
            f"bf16 products reach {rate} TFLOP/s here. Utilisation: FLOPs of forward "
            "and backward of the network by XLA's count, over the time of the whole "
            "step, over that rate."
        )
    if result["skipped"]:
        skipped = [f"- {s['what']}: {s['reason']}" for s in result["skipped"]]
        out.append("Skipped:\n\n" + "\n".join(skipped))
    return out


def table(rows: Sequence[dict], ceiling: float | None = None) -> str:
    """Time and rate of whole steps, a line for each contender."""
    header = [
        "", "contender", "batch", "ms a step", "min", "spread", "images/s", "aim",
        "augmentation", "utilisation",
    ]  # fmt: skip
    lines = []
    for row in rows:
        for name, part in CONTENDERS.items():
            if not row["seconds"].get(name):
                continue
            step = timing.summary(row["seconds"][name])
            rate = row["batch"] / step["median"]
            share, used = "–", "–"
            if row["seconds"].get(part):
                alone = timing.summary(row["seconds"][part])["median"]
                share = f"{100 * alone / step['median']:.1f} %"
            if row["flops"] and ceiling:
                used = f"{100 * row['flops'] / step['median'] / ceiling:.1f} %"
            lines.append([
                f"{row['title']}, {row['dtype']}", name, row["batch"],
                results.milliseconds(step["median"]),
                results.milliseconds(step["min"]),
                f"{100 * step['spread']:.1f} %",
                results.significant(rate, 4),
                results.significant(row["aim"], 4),
                share, used,
            ])  # fmt: skip
    return results.table(header, lines, text=2)


def _parts_table(rows: Sequence[dict]) -> str:
    parts = [_parts(row) for row in rows]
    names = list(dict.fromkeys(name for found in parts for name in found))
    lines = []
    for row, found in zip(rows, parts, strict=True):
        whole = _medians(row).get(STEP)
        cells = [
            f"{results.milliseconds(found.get(name))}"
            + (
                f" ({100 * found[name] / whole:.1f} %)"
                if name in found and whole
                else ""
            )
            for name in names
        ]
        lines.append([row["title"], *cells])
    return results.table(["ms, and share of the step", *names], lines)


def _compiled(rows: Sequence[dict]) -> str:
    lines = [
        [
            row["title"],
            name,
            f"{row['compile_seconds'][name]:.1f}",
            results.size_text(row["temp_bytes"].get(name)),
        ]
        for row in rows
        for name in row["compile_seconds"]
    ]
    header = ["", "program", "s to trace and compile, beside others", "temporaries"]
    return results.table(header, lines, text=2)


def kernels_table(row: dict, *, most: int = 15) -> str:
    """The longest kernels of a step as a table."""
    whole = 1e3 * _medians(row)[STEP]
    lines = [
        [
            kernel["name"][:40],
            kernel["op"][-60:].replace("|", "/"),
            results.significant(kernel["ms"]),
            f"{100 * kernel['ms'] / whole:.1f} %",
            results.significant(kernel["count"]),
        ]
        for kernel in row["kernels"][:most]
    ]
    header = [f"{row['title']}: longest", "of", "ms a step", "share", "calls a step"]
    return results.table(header, lines, text=2)


def _medians(row: dict) -> dict[str, float]:
    return {n: timing.summary(s)["median"] for n, s in row["seconds"].items() if s}


def _parts(row: dict) -> dict[str, float]:
    return shares(_medians(row))


def plot(figure, result: dict) -> None:
    """The parts of a step beside one another, a bar for each network."""
    axes = figure.subplots()
    rows = result["rows"]
    parts = [_parts(row) for row in rows]
    names = list(dict.fromkeys(name for found in parts for name in found))
    place, left = np.arange(len(rows))[::-1], np.zeros(len(rows))
    for name, colour in zip(names, results.COLOURS, strict=False):
        wide = np.array([1e3 * max(found.get(name, 0.0), 0.0) for found in parts])
        axes.barh(place, wide, 0.5, left, color=colour, label=name)
        left += wide
    for y, row in zip(place, rows, strict=True):
        for name in PEERS:
            if row["seconds"].get(name):
                ms = 1e3 * timing.summary(row["seconds"][name])["median"]
                axes.plot([ms] * 2, [y - 0.35, y + 0.35], color="black")
                axes.text(ms, y + 0.36, name, ha="center", va="bottom", fontsize=8)
    axes.set_yticks(place, [f"{r['title']}, batch {r['batch']}" for r in rows])
    axes.set_xlabel("ms a step")
    figure.legend(loc="outside upper left", ncols=len(names) or 1)


if __name__ == "__main__":
    main()
    session.leave()
