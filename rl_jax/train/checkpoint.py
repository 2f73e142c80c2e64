"""Checkpoints that can be trusted: the only file that knows Orbax.

Orbax writes atomically and in the background, but restores a flipped bit without a
word, casts silently, and takes an empty folder for the latest step. So every checkpoint
carries the shape, dtype and digest of each leaf; a restore compares them, and falls
back to the step before with one line of reason.
"""

import json
import operator
import pathlib
import shutil
import zlib
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rl_jax import files
from rl_jax.errors import CheckpointError, RunError, UsageError
from rl_jax.train import event_loop, processes

FORMAT = 1
"""Version of the layout; a newer one is refused."""

UNSOUND, MAY_PASS = 1, 2
"""Why a checkpoint is not read: its content, or what says nothing of it."""


def _raw(x: chex.Array) -> chex.Array:
    return jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x


def room_needed(state: chex.ArrayTree) -> int:
    """Bytes of disk for one checkpoint, a fifth more than those of its arrays.

    Args:
      state: arrays, or their shapes as `jax.eval_shape` gives them.
    """
    shapes = jax.tree.leaves(jax.eval_shape(lambda s: jax.tree.map(_raw, s), state))
    return int(1.2 * sum(x.size * x.dtype.itemsize for x in shapes))


def _words(x: chex.Array) -> chex.Array:
    """64 bits of NumPy as 32 and 32, of which `jit` would round away a half."""
    wide = isinstance(x, np.ndarray) and x.dtype.itemsize == 8
    return np.ascontiguousarray(x).reshape(-1).view(np.uint32) if wide else x


@jax.jit
def _digests(leaves: list[chex.Array]) -> list[chex.Array]:
    """Two modular sums of each leaf's bits, mixed with their position: uint32 [2].

    Sums modulo 2³² do not depend on the order, so neither on how the leaf is sharded.
    Odd multipliers make every single changed word show.
    """

    def digest(x):
        x = _raw(x)
        if x.dtype == jnp.bool_:
            x = x.astype(jnp.uint8)
        width = 8 * x.dtype.itemsize
        bits = lax.bitcast_convert_type(x, jnp.dtype(f"uint{min(width, 32)}"))
        bits = bits.reshape(-1).astype(jnp.uint32)
        place = lax.iota(jnp.uint32, bits.size)
        first = jnp.sum(bits * (2 * place + 1), dtype=jnp.uint32)
        second = (bits ^ (place * jnp.uint32(0x85EBCA6B))) * jnp.uint32(0x9E3779B1)
        second ^= second >> 15
        return jnp.stack([first, jnp.sum(second * (2 * place + 1), dtype=jnp.uint32)])

    return [digest(x) for x in leaves]


def fingerprint(tree: chex.ArrayTree) -> dict[str, list]:
    """Per leaf path: shape, dtype and the two words of its digest."""
    paths, leaves = zip(*jax.tree_util.tree_leaves_with_path(tree), strict=True)
    sums = jax.device_get(_digests([_words(x) for x in leaves]))
    return {
        jax.tree_util.keystr(path): [list(x.shape), str(x.dtype), *map(int, words)]
        for path, x, words in zip(paths, leaves, sums, strict=True)
    }


def _layout(tree: chex.ArrayTree) -> dict[str, list]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(p): [list(x.shape), str(x.dtype)] for p, x in leaves}


def _checksum(notes: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(notes, sort_keys=True).encode())


def _one_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200]


def _may_pass(error: BaseException) -> bool:
    """Whether a failed read says nothing about the checkpoint itself."""
    if isinstance(error, OSError):
        return not isinstance(error, FileNotFoundError | NotADirectoryError)
    text = str(error)
    passing = ("RESOURCE_EXHAUSTED", "PERMISSION_DENIED", "UNAVAILABLE")
    return isinstance(error, MemoryError) or any(word in text for word in passing)


def _how_bad(error: Exception | None) -> int:
    if error is None:
        return 0
    return MAY_PASS if _may_pass(error) else UNSOUND


class Checkpoints:
    """The checkpoints of one run, newest last; a context manager.

    Args:
      directory: folder of the checkpoints; made on the first save.
      keep: how many of the newest are kept.
      say: called with one line where something has to be said.
      read_only: for readers beside a living run: nothing is renamed or removed.
      notes: JSON that each checkpoint holds beside its arrays, as what made it.
      check: called before a checkpoint is restored, with its step and its notes, None
        where it has none; what it raises of `RunError` ends the restore.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        *,
        keep: int = 3,
        say: Callable[[str], None] = print,
        read_only: bool = False,
        notes: dict[str, Any] | None = None,
        check: Callable[[int, dict[str, Any] | None], None] | None = None,
    ):
        self._directory = pathlib.Path(directory).absolute()
        if keep < 1:
            raise UsageError(f"checkpoints: keep must be at least 1, got {keep}")
        self._keep = keep
        self._say = say
        self._read_only = read_only
        self._notes, self._check = notes, check
        self._manager: Any = None
        self._failed: str | None = None
        self._bytes = 0

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *error) -> None:
        self.close()

    def steps(self) -> list[int]:
        """Steps that have a folder, ascending; whether it is sound shows on restore.

        Waits for the last save.
        """
        if not self._directory.is_dir():
            return []
        self.wait()
        names = [p.name for p in self._directory.iterdir() if p.is_dir()]
        found = sorted(int(name) for name in names if name.isdigit())
        return processes.of_first(found)

    def _open(self):
        import orbax.checkpoint as ocp

        if self._manager is None:
            options = ocp.CheckpointManagerOptions(
                preservation_policy=ocp.checkpoint_managers.LatestN(self._keep),
                cleanup_tmp_directories=not self._read_only,
                enable_async_checkpointing=not self._read_only,
                read_only=self._read_only,
                save_interval_steps=0 if self._read_only else 1,
                create=not self._read_only,
            )
            self._manager = ocp.CheckpointManager(
                self._directory, options=options, item_names=("state", "meta")
            )
        return self._manager

    def save(self, step: int, state: chex.ArrayTree) -> None:
        """Starts writing `state`; the arrays may be donated when this returns.

        A failure (full disk, folder not writable) is said and training goes on;
        `finish` raises it if no later save succeeds.

        Args:
          step: ≥ 0, an integer of any kind.
          state: the tree to write.

        Raises:
          UsageError: for another step, or where it was opened to read only.
        """
        import orbax.checkpoint as ocp

        step = operator.index(step)
        if self._read_only:
            raise UsageError(f"{self._directory}: opened to read only, not to save")
        if step < 0:
            raise UsageError(f"checkpoints: step must be >= 0, got {step}")
        state = jax.tree.map(
            lambda x: x if hasattr(x, "dtype") else jnp.asarray(x), state
        )
        needed = room_needed(state)
        try:
            self.wait()
            self._directory.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self._directory).free
            if processes.any_of(free < needed):
                raise OSError(f"{free / 1e6:.0f} MB free, {needed / 1e6:.0f} MB needed")
            meta = {"format": FORMAT, "step": step, "leaves": fingerprint(state)}
            if self._notes is not None:
                meta |= {"notes": self._notes, "notes_sum": _checksum(self._notes)}
            self._open().save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta)
                ),
                force=True,
            )
            self._failed = None
        except Exception as error:
            self._fail(f"checkpoint of step {step} not written: {_one_line(error)}")

    def _fail(self, reason: str) -> None:
        self._failed = reason
        self._say(f"warning: {reason}")
        if processes.is_first():
            for leftover in self._directory.glob("*.orbax-checkpoint-tmp*"):
                shutil.rmtree(leftover, ignore_errors=True)
        self._manager = None

    def wait(self) -> None:
        """Blocks until the last save is on disk, or has failed."""
        if self._manager is None:
            return
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            self._fail(f"checkpoint not written: {_one_line(error)}")

    def finish(self) -> None:
        """Waits, and raises if the last save did not reach the disk.

        Raises:
          RunError: with the reason.
        """
        self.wait()
        if self._failed:
            raise RunError(f"the run ended, but {self._failed}")

    def close(self) -> None:
        """Waits for the last save and lets go of the folder."""
        self.wait()
        if self._manager is not None:
            self._manager.close()
            self._manager = None

    def restore(self, target: chex.ArrayTree) -> tuple[int, Any] | None:
        """The newest sound checkpoint.

        Args:
          target: the tree to fill, of `jax.ShapeDtypeStruct` with shardings.

        Returns:
          `(step, tree)`, or None where no checkpoint exists.

        Raises:
          CheckpointError: when checkpoints exist and none is sound; none is renamed.
          UsageError: when one was made for other shapes, or by a newer version.
          RunError: when one cannot be read for a cause that may pass (memory, rights,
            the disk); none is renamed.
        """
        reasons = [
            f"{path.name} was set aside as not sound"
            for path in sorted(self._directory.glob("*.corrupt"))
        ]
        unsound = []
        for step in reversed(self.steps()):
            state, error = self._attempt(step, target)
            how = processes.largest(_how_bad(error))
            if how:
                error = error or RuntimeError("another process cannot read it")
                if how == MAY_PASS:
                    raise RunError(
                        f"checkpoint {step} cannot be read now: {_one_line(error)}; "
                        "nothing was changed, mend the cause and try again"
                    ) from error
                reason = f"checkpoint {step} is not sound: {_one_line(error)}"
                reasons.append(reason)
                unsound.append(step)
                self._say(f"warning: {reason}; trying the one before")
                continue
            # Only now: that this one could be read shows the fault lies in the others.
            for bad in unsound:
                self._set_aside(bad)
            return step, state
        if reasons:
            raise CheckpointError(
                f"{self._directory}: none of {len(reasons)} checkpoints is sound "
                f"({'; '.join(reasons)}); remove the folder to start from step 0"
            )
        return None

    def _attempt(self, step: int, target: chex.ArrayTree):
        """The tree, or why it cannot be had."""
        try:
            return self._restore(step, target), None
        except RunError:
            raise
        except Exception as error:
            return None, error

    def restore_step(self, step: int, target: chex.ArrayTree):
        """The tree of one of `steps()`, if it is sound.

        Args:
          step: of the checkpoint.
          target: as `restore` takes it.

        Raises:
          CheckpointError: when it is not sound; it is not renamed.
          UsageError, RunError: as `restore`.
        """
        try:
            return self._restore(step, target)
        except RunError:
            raise
        except Exception as error:
            kind = RunError if _may_pass(error) else CheckpointError
            raise kind(
                f"checkpoint {step} cannot be read: {_one_line(error)}"
            ) from error

    def _restore(self, step: int, target: chex.ArrayTree):
        import orbax.checkpoint as ocp

        folder = self._directory / str(step)
        meta = files.read_json(folder / "meta" / "metadata")
        if meta["format"] > FORMAT:
            raise UsageError(
                f"checkpoint {step} has format {meta['format']}, this version reads up "
                f"to {FORMAT}: use a newer rl_jax"
            )
        notes = meta.get("notes")
        if notes is not None and _checksum(notes) != meta["notes_sum"]:
            raise ValueError("the content of its notes has changed")
        if self._check is not None:
            self._check(step, notes)
        _check_layout(step, meta["leaves"], _layout(target))
        args = ocp.args.Composite(state=ocp.args.StandardRestore(target))
        with event_loop.finishing():
            state = self._open().restore(step, args=args)["state"]
        found = fingerprint(state)
        changed = [
            name for name, entry in meta["leaves"].items() if found[name] != entry
        ]
        if changed:
            raise ValueError(f"the content of {', '.join(changed[:3])} has changed")
        return state

    def _set_aside(self, step: int) -> None:
        if self._read_only:
            return
        self.close()
        if not processes.is_first():
            return
        folder = self._directory / str(step)
        aside = folder.with_name(f"{step}.corrupt")
        shutil.rmtree(aside, ignore_errors=True)
        folder.rename(aside)


def _check_layout(step: int, saved: dict, asked: dict) -> None:
    """Refuses a checkpoint of another configuration, naming the first difference."""
    if {name: entry[:2] for name, entry in saved.items()} == asked:
        return
    for name in sorted(saved.keys() | asked.keys()):
        one, two = saved.get(name, [None, None])[:2], asked.get(name, [None, None])
        if one != two:
            said = [
                "nothing" if shape is None else f"{dtype}{shape}"
                for shape, dtype in (one, two)
            ]
            raise UsageError(
                f"checkpoint {step} was made with another configuration: {name} is "
                f"{said[0]} there, {said[1]} here; use the run's own run.json"
            )
