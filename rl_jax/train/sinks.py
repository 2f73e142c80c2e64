"""Where the rows of a run go: its metrics file always, TensorBoard and W&B if asked."""

import contextlib
import functools
import importlib
import importlib.util
import pathlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from rl_jax.errors import UsageError
from rl_jax.train.metrics import MetricsFile

EXTRAS = {"tensorboard": ("tensorboardX", "tb"), "wandb": ("wandb", "wandb")}


class Sinks(NamedTuple):
    """The open sinks of a run.

    Attributes:
      write: `(row)` hands a row to all of them.
      replace: `(row)` does so with one whose step the metrics file has: it takes the
        place of that there.
      sync: `()` returns when the metrics file is on disk.
      check: `()` raises RunError if rows are missing from the metrics file.
    """

    write: Callable[[dict[str, Any]], None]
    replace: Callable[[dict[str, Any]], None]
    sync: Callable[[], None]
    check: Callable[[], None]


NO_SINKS = Sinks(lambda row: None, lambda row: None, lambda: None, lambda: None)
"""Those of a process that writes nothing."""


def check_sinks(names: tuple[str, ...]) -> None:
    """Refuses a sink that is unknown or not installed.

    Raises:
      UsageError: with the command that installs it.
    """
    for name in names:
        if name not in EXTRAS:
            raise UsageError(f"unknown sink {name!r}; there are: {', '.join(EXTRAS)}")
        module, extra = EXTRAS[name]
        found = importlib.util.find_spec(module)
        if found is None or found.origin is None:  # a folder that is called so
            raise UsageError(
                f"{name} needs the package {module}: pip install 'rl-jax[{extra}]'"
            )


@contextlib.contextmanager
def open_sinks(
    path: pathlib.Path,
    names: tuple[str, ...] = (),
    *,
    say: Callable[[str], None] = print,
) -> Iterator[Sinks]:
    """Opens the metrics file at `path` and the named sinks beside it.

    None of them can end a run: one that cannot be written is said with `say`.
    """
    check_sinks(names)
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(MetricsFile(path, say=say))
        writers: dict[str, Callable[[dict[str, Any]], Any]] = {}
        if "tensorboard" in names:
            module = importlib.import_module("tensorboardX")
            board = module.SummaryWriter(str(path.parent / "tensorboard"))
            stack.callback(board.close)
            writers["tensorboard"] = lambda row: [
                board.add_scalar(name, value, row["step"])
                for name, value in row.items()
                if name != "step"
            ]
        if "wandb" in names:
            wandb = importlib.import_module("wandb")
            run = wandb.init(
                project="rl_jax", id=path.parent.name, resume="allow", dir=path.parent
            )
            stack.callback(run.finish)
            writers["wandb"] = lambda row: run.log(row, step=row["step"])

        def hand(to_file, row):
            to_file(row)
            for name, writer in list(writers.items()):
                try:
                    writer(row)
                except OSError as error:
                    del writers[name]
                    say(f"warning: {name} gets no rows any more: {error}")

        write, replace = (
            functools.partial(hand, to_file) for to_file in (file.write, file.replace)
        )
        yield Sinks(write, replace, file.sync, file.check)
