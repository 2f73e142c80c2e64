"""Checkpoints that can be trusted: the only file that knows Orbax.

Orbax writes atomically and in the background, but restores a flipped bit without a
word, casts silently, and takes an empty folder for the latest step. So every checkpoint
carries the shape, dtype and digest of each leaf; a restore compares them, and falls
back to the step before with one line of reason.
"""

import contextlib
import json
import operator
import pathlib
import shutil
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp

from rl_jax import files
from rl_jax.errors import CheckpointError, RunError, UsageError
from rl_jax.train import event_loop, processes
from rl_jax.train.digests import (
    check_content,
    check_layout,
    fingerprint,
    layout,
    path_of,
    room_needed,
)
from rl_jax.train.failed import MAY_PASS, attempt, how_bad, may_pass, one_line
from rl_jax.train.quiet import join_writers, quiet

FORMAT = 1
"""Version of the layout; a newer one is refused."""


def _checksum(notes: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(notes, sort_keys=True).encode())


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
        self._saving: int | None = None
        self._broken = False
        self._quiet = contextlib.ExitStack()

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
            if not self._read_only and (left := self._remove_leftovers()):
                names = ", ".join(left)
                self._say(f"removed what a save that was cut off has left: {names}")
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

        A failure (full disk, folder not writable) is said, by `poll` at the latest, and
        training goes on; `finish` raises it if no later save succeeds.

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
            if processes.any_of(self._broken):
                self._drop()
            self._directory.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self._directory).free
            if processes.any_of(free < needed):
                raise OSError(f"{free / 1e6:.0f} MB free, {needed / 1e6:.0f} MB needed")
            meta = {"format": FORMAT, "step": step, "leaves": fingerprint(state)}
            if self._notes is not None:
                meta |= {"notes": self._notes, "notes_sum": _checksum(self._notes)}
            self._quiet.enter_context(quiet())
            self._open().save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta)
                ),
                force=True,
            )
            self._failed, self._saving = None, step
        except Exception as error:
            join_writers()
            self._quiet.close()
            self._fail(step, error)
            self._drop()

    def _fail(self, step: int, error: Exception) -> None:
        self._failed = f"checkpoint of step {step} not written: {one_line(error)}"
        self._say(f"warning: {self._failed}")
        self._broken = True

    def _drop(self) -> None:
        """Lets go of what is left of a failed save; the next one begins anew."""
        self._remove_leftovers()
        self._manager, self._broken = None, False

    def _remove_leftovers(self) -> list[str]:
        """Removes what is no whole checkpoint; the names."""
        if not processes.is_first():
            return []
        found = sorted(self._directory.glob("*.orbax-checkpoint-tmp*"))
        for leftover in found:
            shutil.rmtree(leftover, ignore_errors=True)
        return [path.name for path in found]

    def poll(self) -> None:
        """Says at once if the last save has failed meanwhile; it waits for none."""
        if self._saving is not None and not self._manager.is_saving_in_progress():
            self.wait()

    def wait(self) -> None:
        """Blocks until the last save is on disk, or has failed."""
        if self._saving is None:
            return
        step, self._saving = self._saving, None
        with contextlib.closing(self._quiet):
            try:
                self._manager.wait_until_finished()
            except Exception as error:
                join_writers()
                self._fail(step, error)
        # Several processes let go of it together, at the next save.
        if self._broken and jax.process_count() == 1:
            self._drop()

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
        return self._newest_sound(self.steps(), lambda s: self._restore(s, target))

    def restore_part(
        self,
        choose: Callable[[dict[str, list]], Sequence[str]],
        *,
        sharding: jax.sharding.Sharding,
        step: int | None = None,
    ) -> tuple[int, dict[str, chex.Array]] | None:
        """Some leaves of the newest sound checkpoint; the others are not read.

        What made the others need not be known, nor fit into memory.

        Args:
          choose: `({name: [shape, dtype]}) -> names` of the leaves to read; what it
            raises of `RunError` ends the restore.
          sharding: of the leaves.
          step: the only checkpoint to try; None: any.

        Returns:
          `(step, {name: leaf})`, or None where no such checkpoint exists.

        Raises:
          CheckpointError, UsageError, RunError: as `restore`.
        """
        there = [s for s in self.steps() if step in (None, s)]
        if not there:
            return None
        return self._newest_sound(
            there, lambda s: self._restore_part(s, choose, sharding)
        )

    def _newest_sound(
        self, steps: Sequence[int], read: Callable[[int], Any]
    ) -> tuple[int, Any] | None:
        """What `read` gives of the last step that it can read."""
        reasons = [
            f"{path.name} was set aside as not sound"
            for path in sorted(self._directory.glob("*.corrupt"))
        ]
        unsound = []
        for step in reversed(steps):
            state, error = attempt(read, step)
            how = processes.largest(how_bad(error))
            if how:
                error = error or RuntimeError("another process cannot read it")
                if how == MAY_PASS:
                    raise RunError(
                        f"checkpoint {step} cannot be read now: {one_line(error)}; "
                        "nothing was changed, mend the cause and try again"
                    ) from error
                reason = f"checkpoint {step} is not sound: {one_line(error)}"
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
            kind = RunError if may_pass(error) else CheckpointError
            raise kind(
                f"checkpoint {step} cannot be read: {one_line(error)}"
            ) from error

    def _restore(self, step: int, target: chex.ArrayTree):
        import orbax.checkpoint as ocp

        meta = self._meta(step)
        notes = meta.get("notes")
        if notes is not None and _checksum(notes) != meta["notes_sum"]:
            raise ValueError("the content of its notes has changed")
        if self._check is not None:
            self._check(step, notes)
        check_layout(step, meta["leaves"], layout(target))
        args = ocp.args.Composite(state=ocp.args.StandardRestore(target))
        with event_loop.finishing():
            state = self._open().restore(step, args=args)["state"]
        check_content(meta["leaves"], fingerprint(state))
        return state

    def _restore_part(self, step: int, choose, sharding) -> dict[str, chex.Array]:
        import orbax.checkpoint as ocp

        leaves = self._meta(step)["leaves"]
        names = choose({name: entry[:2] for name, entry in leaves.items()})
        target: dict[str, Any] = {}
        for name in names:
            shape, dtype, *_ = leaves[name]
            *parents, last = path_of(name)
            node = target
            for part in parents:
                node = node.setdefault(part, {})
            node[last] = jax.ShapeDtypeStruct(tuple(shape), dtype, sharding=sharding)
        how = ocp.args.PyTreeRestore(
            item=target,
            restore_args=ocp.checkpoint_utils.construct_restore_args(target),
            partial_restore=True,
        )
        args = ocp.args.Composite(state=how)
        with event_loop.finishing():
            state = self._open().restore(step, args=args)["state"]
        found = {}
        for name in names:
            node = state
            for part in path_of(name):
                node = node[part]
            found[name] = node
        sums = fingerprint([found[name] for name in names]).values()
        saved = {name: leaves[name] for name in names}
        check_content(saved, dict(zip(names, sums, strict=True)))
        return found

    def _meta(self, step: int) -> dict[str, Any]:
        meta = files.read_json(self._directory / str(step) / "meta" / "metadata")
        if meta["format"] > FORMAT:
            raise UsageError(
                f"checkpoint {step} has format {meta['format']}, this version reads up "
                f"to {FORMAT}: use a newer rl_jax"
            )
        return meta

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
