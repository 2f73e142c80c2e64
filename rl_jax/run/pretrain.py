"""A training run in a folder: started, continued, and safe to kill at any moment.

The folder holds `run.json` (the recipe), `checkpoints/`, `metrics.jsonl`, `views.png`,
once trained `evaluation.json` and `report.html`, and where steps were not finite
`nonfinite-STEP.npz`, the ids of the first batch.
"""

import contextlib
import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from rl_jax import data, own, train
from rl_jax.errors import Stopped, UsageError, check_integer
from rl_jax.run import changes, datasets, described, knn_curve, labelled, lost, weights
from rl_jax.run import recipe as recipes
from rl_jax.run.check import check, data_change, image_limit, room, trace
from rl_jax.run.console import Console
from rl_jax.run.environment import environment
from rl_jax.run.knn_curve import KnnCurve
from rl_jax.run.lock import locked
from rl_jax.run.outline import outline
from rl_jax.run.recipe import Parts, Recipe
from rl_jax.run.signals import Interrupts
from rl_jax.run.views import save_view_grid
from rl_jax.run.watch import Watch
from rl_jax.run.watchdog import TIMEOUT, Watchdog, check_timeout
from rl_jax.run.weights import initial
from rl_jax.types import TrainState


def start(
    recipe: Recipe,
    source: data.Source,
    folder: pathlib.Path,
    *,
    command: str,
    stall_timeout: float = TIMEOUT,
    sinks: tuple[str, ...] = (),
    loading: data.Loading = data.IN_THREADS,
    remarks: Sequence[str] = (),
) -> TrainState:
    """Starts a run in a new folder and trains it to the end.

    Of several processes all call it; the first writes, to a folder that all see.

    Args:
      recipe: what to train, on what.
      source: the data of the recipe.
      folder: must not hold a run yet.
      command: what the user typed, for the record.
      stall_timeout: seconds without a step after which the process writes its stacks
        and ends with exit code 5; 0: never. Compilation does not count.
      sinks: where metrics go beside metrics.jsonl: "tensorboard", "wandb".
      loading: how images are read that do not fit into memory.
      remarks: lines on what was chosen without being asked for, to say and to keep.

    Returns:
      The final state.

    Raises:
      UsageError: for arguments or data that do not fit, before anything is compiled.
      Stopped: by SIGTERM or Ctrl-C, after saving.
      RunError: when the disk has no room for a checkpoint, or when the last one or rows
        of metrics could not be written.
      NonFiniteError: when training diverged.
    """
    with contextlib.ExitStack() as stack:
        with train.together():
            check_timeout(stall_timeout)
            loading.check("pretrain")
            _check_new(folder)
            seen = labelled.of_run(recipe, source)
            check(recipe, seen)
            parts = recipes.build(recipe, seen)
            names = own.names(recipes.as_json(recipe))
            stack.enter_context(own.one_line(names))
            init = initial(recipe, parts)
            dims = trace(recipe, parts, init)
            room(folder, init)
            if recipe.init_from:
                weights.check(recipe, seen)
            # Refused here; of what is decoded below it is made anew.
            knn_curve.of_run(recipe, source, seen)
        if recipe.init_from:
            # Let go of again: they would stay beside the state while it trains.
            recipe = recipe._replace(init_from=weights.read(recipe, seen)[0])
        code = own.digests(names)
        changes.check_alike(recipe, source, code)
        if train.is_first():
            # Before what may take minutes: who wanted something else stops it here.
            for line in remarks:
                print(line, flush=True)
        with train.together():
            # Decoded before the folder is made: what cannot be read leaves nothing.
            seen = data.resident(seen, limit_bytes=image_limit())
            parts = parts._replace(source=seen)
            curve = knn_curve.decoded(recipe, source, seen)
        with train.together():
            if train.is_first():
                stack.enter_context(locked(folder))
                _check_new(folder)
                recipes.write(
                    recipe,
                    folder / "run.json",
                    command=command,
                    environment=environment(),
                    data=data.fingerprint(source),
                    own=code,
                    outline=outline(source),
                    sinks=list(sinks),
                    dims=dims,
                    network=parts.method.network,
                    remarks=list(remarks),
                )
        how = {"stall_timeout": stall_timeout, "loading": loading, "curve": curve}
        return _train(recipe, parts, folder, sinks=sinks, dims=dims, **how)


def resume(
    folder: pathlib.Path,
    *,
    steps: int | None = None,
    stall_timeout: float = TIMEOUT,
    allow_changes: bool = False,
    loading: data.Loading = data.IN_THREADS,
) -> TrainState:
    """Continues the run in a folder from its newest sound checkpoint.

    Args:
      folder: of the run.
      steps: of the whole run from now on, not fewer than it has; schedules that ended
        with it end with it again. None: as many as it has.
      stall_timeout: as `start` takes it.
      allow_changes: go on with `run.json` and own code as they are, also where the
        checkpoint was made with others.
      loading: as in `start`.

    Returns and raises as `start`; a finished run returns at once. CheckpointError also
    when checkpoints exist and none is sound, UsageError also when the data, the recipe
    or own code has changed, or own code is not imported.
    """
    with contextlib.ExitStack() as stack:
        with train.together():
            check_timeout(stall_timeout)
            loading.check("resume")
            recipe, notes = recipes.read(folder / "run.json")
            own.require(folder)
            names = own.names(recipes.as_json(recipe))
            stack.enter_context(own.one_line(names))
            code = own.digests(names)
            other = own.change(notes, code)
            if other and not allow_changes:
                raise UsageError(
                    f"{folder}: own code has changed since the run started: {other}; "
                    "put it back, or go on as it is now with: "
                    f"{own.again('resume', folder)} --allow-changes"
                )
            before = notes.get("steps_before", [])
            longer = recipe if steps is None else _longer(recipe, steps)
            if longer.steps > recipe.steps:
                before = sorted({*before, recipe.steps})
            source = datasets.build(recipe.data)
            changed = data_change(notes, source)
            if changed:
                raise UsageError(
                    f"{folder}: the data has changed since the run started: {changed}; "
                    "put back what it started with, or start a new run"
                )
            rewritten = bool(other) or longer != recipe
            recipe = longer
            seen = labelled.of_run(recipe, source)
            check(recipe, seen)
            parts = recipes.build(recipe, seen)
            knn_curve.of_run(recipe, source, seen)
        changes.check_alike(recipe, source, code)
        with train.together():
            if train.is_first():
                stack.enter_context(locked(folder))
            seen = data.resident(seen, limit_bytes=image_limit())
            parts = parts._replace(source=seen)
            curve = knn_curve.decoded(recipe, source, seen)
        sinks = tuple(notes.get("sinks", ()))
        dims = notes.get("dims", {})
        same = None
        if not allow_changes:
            same = functools.partial(_check_same, recipe, folder, before)
        record = None
        if rewritten:
            # Once the checkpoint is accepted: what is refused changes nothing.
            notes |= {"own": code, "steps_before": before, "format": recipes.FORMAT}
            path = folder / "run.json"
            record = functools.partial(recipes.write, recipe, path, **notes)
        how = {"resumed": True, "same": same, "record": record}
        how |= {"stall_timeout": stall_timeout, "loading": loading, "curve": curve}
        return _train(recipe, parts, folder, sinks=sinks, dims=dims, **how)


def _longer(recipe: Recipe, steps: int) -> Recipe:
    """The recipe of a run of so many steps."""
    check_integer("steps", steps)
    if steps < recipe.steps:
        raise UsageError(
            f"--steps {steps}: the run has {recipe.steps}, and can be made longer only"
        )
    return recipes.with_steps(recipe, steps)


def _check_same(
    recipe: Recipe,
    folder: pathlib.Path,
    before: Sequence[int],
    step: int,
    notes: dict[str, Any] | None,
) -> None:
    """Refuses a checkpoint that was made with another recipe."""
    # Those of before a checkpoint held its recipe are taken as they are.
    changed = []
    if notes is not None:
        changed = changes.differences(notes, recipe, before)
    if changed:
        raise UsageError(
            f"{folder / 'run.json'} is not what checkpoint {step} was made with: "
            f"{'; '.join(changed[:5])}{'; ...' if len(changed) > 5 else ''}; put that "
            "back, or go on as it is now with: "
            f"{own.again('resume', folder)} --allow-changes"
        )


def _check_new(folder: pathlib.Path) -> None:
    if (folder / "run.json").exists():
        raise UsageError(
            f"{folder} holds a run already; continue it with: "
            f"{own.again('resume', folder)}, or choose another --run-dir"
        )
    for name in ("checkpoints", "metrics.jsonl"):
        if (folder / name).exists():
            raise UsageError(
                f"{folder} holds {name} of a run, but no run.json; move them away, or "
                "choose another --run-dir"
            )


def _train(
    recipe: Recipe,
    parts: Parts,
    folder: pathlib.Path,
    *,
    sinks: tuple[str, ...],
    dims: dict[str, int],
    stall_timeout: float,
    loading: data.Loading,
    curve: KnnCurve | None,
    resumed: bool = False,
    same: Callable[[int, dict[str, Any] | None], None] | None = None,
    record: Callable[[], None] | None = None,
) -> TrainState:
    hint = own.again("resume", folder)
    metrics_path = folder / "metrics.jsonl"
    watch, last, owed = Watch(recipe.steps, dims), {}, None
    writes = train.is_first()
    leave = train.leave if train.joined() else None
    with (
        Console(recipe.steps, quiet=not writes) as console,
        Interrupts(hint) as interrupts,
        Watchdog(stall_timeout, hint, leave=leave) as watchdog,
    ):
        init = initial(recipe, parts)
        with train.Checkpoints(
            folder / "checkpoints",
            say=console.say,
            notes=changes.noted(recipe),
            check=same,
        ) as checkpoints:
            state = None
            if resumed:
                target = train.restore_target(init, train.data_mesh())
                found = checkpoints.restore(target)
                with train.together():
                    if record is not None and writes:
                        record()
                if found is None:
                    console.say("no checkpoint yet: starting from the seed at step 0")
                else:
                    step, state = found
                    console.say(f"continuing from the checkpoint of step {step}")
                if writes:
                    train.keep_rows(metrics_path, up_to=0 if found is None else step)
                if state is not None and curve is not None:
                    if writes:
                        owed = curve.owed(train.read_rows(metrics_path), step)
                    # All score it, or none.
                    owed = train.of_first(owed)
                if state is not None and step >= recipe.steps and owed is None:
                    return state
            if resumed:
                with train.together():
                    room(folder, init)
                    if state is None and recipe.init_from:
                        weights.check(recipe, parts.source)
            for line in described.lines(recipe, parts, init):
                console.say(line)
            if curve is not None:
                console.say(curve.line())
            picture = folder / "views.png"
            if writes and parts.source.image_shape and not picture.exists():
                _picture(picture, recipe, parts, console.say)
            opened = train.open_sinks(metrics_path, sinks, say=console.say)
            with opened if writes else contextlib.nullcontext(train.NO_SINKS) as sink:
                keep = functools.partial(lost.keep, folder, console.say)

                def score(step: int, state: TrainState) -> dict[str, float]:
                    assert curve is not None
                    return curve.row(
                        *(step, parts, state),
                        say=console.say,
                        stop=interrupts.requested,
                        beat=watchdog.beat,
                    )

                def on_log(row: dict[str, Any]) -> None:
                    sink.write(row)
                    console.row(row)
                    for line in watch.changes(row):
                        console.say(line)
                    last.update(row)

                if state is not None and owed is not None:
                    found = score(owed["step"], state)
                    if not found:  # Stopped: the row waits for the next time.
                        interrupts.poll(f"at step {owed['step']}, saved in {folder}")
                    sink.replace(owed | found)
                state = train.fit(
                    parts.method,
                    parts.source,
                    augment=parts.augment,
                    optimizer=parts.optimizer,
                    steps=recipe.steps,
                    batch_size=recipe.batch_size,
                    seed=recipe.seed,
                    state=_first(recipe, parts) if state is None else state,
                    log_every=recipe.log_every,
                    on_log=on_log,
                    on_state=None if curve is None else score,
                    checkpoints=checkpoints,
                    checkpoint_every=recipe.checkpoint_every,
                    before_save=sink.sync,
                    stop=interrupts.requested,
                    on_nonfinite=recipe.on_nonfinite,
                    nonfinite_limit=recipe.nonfinite_limit,
                    on_lost=keep if writes else None,
                    on_step=watchdog.beat,
                    loading=loading,
                )
                watchdog.beat()
            checkpoints.finish()
        step = int(train.fetch(state.step))
        _warn_about_files(parts.source, console)
        stopped = train.any_of(interrupts.requested())
        interrupts.poll(f"at step {step}, saved in {folder}")
        if stopped:
            raise Stopped(
                f"stopped with another process at step {step}, saved in {folder}; "
                f"continue with: {hint}"
            )
        if last and (said := watch.conclusion(last)):
            console.say(f"after {step} steps: {said} (of the last batch)")
        sink.check()
        return state


def _picture(
    path: pathlib.Path, recipe: Recipe, parts: Parts, say: Callable[[str], None]
) -> None:
    """Draws the views; a run goes on without the picture where it cannot be written."""
    try:
        save_view_grid(path, recipe, parts)
    except OSError as error:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        say(f"warning: {path.name} not written: {error.strerror or error}")


def _first(recipe: Recipe, parts: Parts) -> TrainState:
    """The state before the first step, with the weights that the recipe names."""
    given = weights.read(recipe, parts.source)[1] if recipe.init_from else None
    return initial(recipe, parts, given)()


def _warn_about_files(source: data.Source, console: Console) -> None:
    found = source.problems()
    if found["bad"]:
        names = ", ".join(found["names"])
        console.say(
            f"warning: {found['bad']} files could not be decoded and were replaced: "
            f"{names}"
        )
