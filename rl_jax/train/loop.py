"""The training loop: feeds the compiled step, logs, saves, stops when asked."""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from rl_jax import data, pairwise
from rl_jax.errors import UsageError
from rl_jax.train import arguments, nonfinite, processes, sharding
from rl_jax.train.checkpoint import Checkpoints
from rl_jax.train.feed import Feed, open_feed
from rl_jax.train.initial import initial_state
from rl_jax.train.optimizers import Optimizer, updates_made
from rl_jax.train.pace import Pace, scanned_steps
from rl_jax.train.step import train_step
from rl_jax.types import Augment, Method, TrainState


def fetch(tree):
    """Copies arrays to the host: the loop's only read of the device."""
    return jax.device_get(tree)


def fit(
    method: Method,
    source: data.Source,
    *,
    augment: Augment,
    optimizer: optax.GradientTransformation,
    steps: int,
    batch_size: int = 256,
    seed: int = 0,
    state: TrainState | None = None,
    mesh: Mesh | None = None,
    log_every: int = 10,
    on_log: Callable[[dict[str, Any]], None] | None = None,
    on_state: Callable[[int, TrainState], Mapping[str, float] | None] | None = None,
    checkpoints: Checkpoints | None = None,
    checkpoint_every: int = 100,
    before_save: Callable[[], None] | None = None,
    stop: Callable[[], bool] | None = None,
    steps_per_call: int | None = None,
    loading: data.Loading = data.IN_THREADS,
    on_nonfinite: str = "halt",
    nonfinite_limit: int = 10,
    on_lost: Callable[[nonfinite.LostSteps], None] | None = None,
    on_step: Callable[[int], None] | None = None,
) -> TrainState:
    """Trains `method` on `source`.

    The batch of step t, its views and its noise are functions of (seed, t) alone, so a
    run continued from a saved state is the run that was not interrupted.

    Several processes (`jax.distributed`) call it alike and train as one: each decodes
    the rows of its own devices, the state is everywhere. All call `on_log` and save
    (`Checkpoints` writes once, to a folder that all of them see).

    Args:
      method: what to train.
      source: where examples come from; held on the device where in memory.
      augment: makes the views.
      optimizer: of the method's parameters.
      steps: optimizer steps of the whole run, ≥ 1.
      batch_size: examples of one step over all devices.
      seed: of the initialisation, the order of examples and all noise.
      state: where to go on; None starts at step 0. Donated: do not use it afterwards.
      mesh: devices; None takes all.
      log_every: steps between calls of `on_log`; between them and the saves the host
        reads nothing.
      on_log: called with a row of floats: `step`, the metrics of that step, `nonfinite`
        (steps lost since the row before), `learning_rate` (of the last update, where
        the optimizer tells it, see `with_schedule`) and the fields of `metrics.CLOCK`.
      on_state: called before it with the step and the state, as for k-NN in between;
        numbers that it returns by name, of Python or scalar arrays, join the row as
        floats. The state is donated to the next step, so copy what outlives the call.
        Its time is none of the steps'.
      checkpoints: where to save, every `checkpoint_every` steps and at the end. One
        that fails is said and training goes on; `finish()` raises if the last did.
      before_save: called before each save, when all rows up to it were given out.
      stop: polled after every call of the compiled step; true on any of several
        processes, which ask each other every few seconds, saves and returns.
      steps_per_call: steps in one compiled `scan`; None chooses 1 on CPU (where a
        convolution in a loop is slow), elsewhere up to 64 that take a few seconds.
      loading: workers, threads and patience where images are read as they are needed.
      on_nonfinite: "halt" ends the run where a loss, gradient or update was not finite;
        "skip" goes on without that update. In both the step changes nothing else.
      nonfinite_limit: so many such steps in a row end the run in any case; counted
        anew where a run is continued.
      on_lost: called with the steps that were lost, at the log point or save after.
      on_step: called with the step after every call of the compiled step, as a sign of
        life; the device may still be some calls behind.

    Returns:
      The state after `steps` steps, or after the step at which `stop` was true.

    Raises:
      UsageError: for pieces of another kind, labels beyond the method's classes,
        images beyond the augmentation's range, a batch that fits neither the data nor
        the devices, counts or a seed out of range, a state beyond the last step, a
        start at step 0 with checkpoints of another run, a mesh without an automatic
        axis `data`, a method whose step changes the shape or dtype of what it carries,
        what `on_state` returns that is no number or has a name of the row's own,
        or a process that is called otherwise than the first (RunError on the others).
      NonFiniteError: at the first log point or save after a loss, gradient or update
        was not finite, or with "skip" too many in a row; the state without those
        updates has been saved.
    """
    arguments.check_counts(
        1,
        steps=steps,
        batch_size=batch_size,
        log_every=log_every,
        checkpoint_every=checkpoint_every,
        steps_per_call=1 if steps_per_call is None else steps_per_call,
    )
    loading.check("fit")
    nonfinite.check_policy(on_nonfinite, nonfinite_limit)
    arguments.check_kinds(method, source, augment, optimizer)
    arguments.check_labels(method, source)
    arguments.check_range(augment, source)
    mesh = sharding.data_mesh() if mesh is None else mesh
    arguments.check_seed(seed)
    sharding.check_mesh(mesh)
    sharding.check_batch_size(batch_size, mesh)
    data.steps_per_epoch(source.size, batch_size)
    if state is None:
        state = initial_state(
            method,
            source,
            augment=augment,
            optimizer=optimizer,
            seed=seed,
            batch_size=batch_size,
            mesh=mesh,
        )()
    elif not isinstance(state, TrainState):
        raise UsageError(
            f"state: expected a TrainState or None, got {type(state).__name__}"
        )
    step = int(fetch(state.step))
    if step == 0 and checkpoints is not None and (saved := checkpoints.steps()):
        raise UsageError(
            f"checkpoints: the folder holds those of steps {saved} already, and this "
            "run starts at step 0; give their state to go on, or another folder"
        )
    if step > steps:
        raise UsageError(
            f"state is that after step {step}, beyond the {steps} steps of the run; "
            "give more steps"
        )
    processes.check_alike(
        step=step,
        steps=steps,
        batch_size=batch_size,
        seed=seed,
        log_every=log_every,
        checkpoint_every=checkpoint_every,
        steps_per_call=steps_per_call,
        on_nonfinite=on_nonfinite,
        nonfinite_limit=nonfinite_limit,
        examples=source.size,
        parameters=sum(x.size for x in jax.tree.leaves(state.params)),
    )
    pairwise.settle(processes.any_of)
    clock = _Clock(step, batch_size)
    feeding = open_feed(
        source,
        mesh=mesh,
        seed=seed,
        batch_size=batch_size,
        start_step=step,
        steps=steps,
        loading=loading,
    )
    with jax.set_mesh(mesh), feeding as feed:
        pieces = {"method": method, "augment": augment, "optimizer": optimizer}
        run = compiled_steps(feed, mesh, **pieces)
        most = steps_per_call or scanned_steps(log_every)
        pace = Pace(step, stop, most=most, adapts=steps_per_call is None)
        leaves = nonfinite.leaf_names(state)
        lost = sharding.put(nonfinite.none_lost(), sharding.replicated(mesh))
        checked, since = step, 0
        while step < steps:
            until = min(_next(step, log_every), _next(step, checkpoint_every), steps)
            count = pace.count(min(until - step, feed.most))
            with clock.waiting():
                inputs = feed.inputs(step, count)
            state, metrics, lost = run(count)(state, lost, feed.held, inputs)
            step += count
            if on_step is not None:
                on_step(step)
            if checkpoints is not None:
                checkpoints.poll()
            logging = step % log_every == 0 or step == steps
            saving = step % checkpoint_every == 0 or step == steps
            stopping = pace.stops(step, metrics)
            saving = saving or stopping
            if logging or saving:
                row, found, updates = fetch((metrics, lost, updates_made(state)))
                since += int(found.count)
                looked_at = None
                if logging and on_state is not None:
                    with pace.aside(), clock.aside():
                        looked_at = on_state(step, state)
                    # It may have taken long, and been broken off for this very step.
                    stopping = stopping or pace.asked()
                    saving = saving or stopping
                if logging and on_log is not None:
                    row = {name: float(v) for name, v in row.items()}
                    row |= {"nonfinite": float(since)}
                    if isinstance(optimizer, Optimizer):
                        last = max(int(updates) - 1, 0)
                        row |= {"learning_rate": optimizer.learning_rate(last)}
                    full = {"step": step} | row | clock.row(step)
                    on_log(full | _numbers(looked_at, full))
                    since = 0
                # Before each save too: the count is not in it, so it must be zero.
                if found.count:
                    first = int(found.step)
                    told = nonfinite.LostSteps(
                        after=checked,
                        until=step,
                        count=int(found.count),
                        longest=int(found.longest),
                        step=first,
                        leaf=leaves[int(found.leaf)],
                        index=data.batch_indices(
                            seed, first - 1, size=source.size, batch_size=batch_size
                        ),
                    )
                    if on_lost is not None:
                        on_lost(told)
                    halts = on_nonfinite == "halt"
                    if halts or told.longest >= nonfinite_limit:
                        _save(checkpoints, before_save, step, state)
                        limit = None if halts else nonfinite_limit
                        raise nonfinite.error(told, row, limit=limit)
                    lost = nonfinite.none_lost(int(found.streak))
                    lost = sharding.put(lost, sharding.replicated(mesh))
                checked = step
            if saving:
                with pace.aside():
                    _save(checkpoints, before_save, step, state)
            if stopping:
                break
    return state


def _next(step: int, every: int) -> int:
    return (step // every + 1) * every


def _numbers(found: Any, row: Mapping[str, Any]) -> dict[str, float]:
    """What `on_state` has returned, as floats that join the row."""
    if not found:
        return {}
    if not isinstance(found, Mapping):
        raise UsageError(
            "on_state: expected numbers by name or None, it returned "
            f"{type(found).__name__}"
        )
    if taken := ", ".join(str(name) for name in found if name in row):
        raise UsageError(
            f"on_state: the row of metrics has {taken} already; return other names"
        )
    numbers = {}
    for name, value in fetch(dict(found)).items():
        try:
            numbers[name] = float(value)
        except (TypeError, ValueError):
            raise UsageError(
                f"on_state: {name} must be a number, it returned {type(value).__name__}"
            ) from None
    return numbers


def compiled_steps(feed: Feed, mesh: Mesh, **pieces):
    """`count -> ` the compiled function of that many steps, state donated."""
    body = functools.partial(train_step, **pieces)

    def one(state, lost, held, inputs):
        state, metrics = body(state, feed.take(held, inputs))
        metrics.pop("nonfinite")
        leaf = metrics.pop("nonfinite_leaf").astype(jnp.int32)
        return state, metrics, nonfinite.note(lost, step=state.step, leaf=leaf)

    def many(state, lost, held, inputs):
        def scanned(carry, x):
            state, metrics, lost = one(*carry, held, x)
            return (state, lost), metrics

        carry, metrics = jax.lax.scan(scanned, (state, lost), inputs)
        return carry[0], jax.tree.map(lambda x: x[-1], metrics), carry[1]

    @functools.cache
    def compiled(count: int):
        everywhere = sharding.replicated(mesh)
        f = one if count == 1 else many
        return jax.jit(f, donate_argnums=(0, 1), out_shardings=everywhere)

    return compiled


def _save(checkpoints, before_save, step, state) -> None:
    if before_save is not None:
        before_save()
    if checkpoints is not None:
        checkpoints.save(step, state)


class _Clock:
    """Throughput and the share of time spent waiting for data, between log points."""

    def __init__(self, step: int, batch_size: int):
        self._batch_size = batch_size
        self._restart(step)

    def _restart(self, step: int) -> None:
        self._step, self._start, self._waited = step, time.perf_counter(), 0.0

    def waiting(self):
        return _Waiting(self)

    def add(self, seconds: float) -> None:
        self._waited += seconds

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """What happens within is no part of the steps' time."""
        start = time.perf_counter()
        yield
        self._start += time.perf_counter() - start

    def row(self, step: int) -> dict[str, float]:
        spent = max(time.perf_counter() - self._start, 1e-9)
        images = (step - self._step) * self._batch_size
        row = {
            "time": time.time(),
            "images_per_second": images / spent,
            "data_wait": self._waited / spent,
        }
        self._restart(step)
        return row


class _Waiting:
    def __init__(self, clock: _Clock):
        self._clock = clock

    def __enter__(self):
        self._start = time.perf_counter()

    def __exit__(self, *error):
        self._clock.add(time.perf_counter() - self._start)
