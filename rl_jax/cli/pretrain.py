"""`rl-jax pretrain METHOD`: from images to an encoder, its measure and a page."""

import pathlib
import shlex
from collections.abc import Sequence
from typing import Any

from rl_jax import data, train
from rl_jax.cli import continued
from rl_jax.cli import recipe as recipes
from rl_jax.cli.cache import enable_compilation_cache
from rl_jax.cli.runs import finish
from rl_jax.errors import UsageError
from rl_jax.run import pretrain as runs

LOADING = ("workers", "threads", "data_timeout")
"""The flags of `data.Loading`, in its order."""


def pretrain(argv: Sequence[str]) -> None:
    """Parses the arguments, trains, evaluates and reports."""
    enable_compilation_cache()
    if "--distributed" in argv:
        train.join()
    asked = recipes.read("pretrain", argv)
    if asked is None:
        return
    command = shlex.join(["rl-jax", "pretrain", *argv])
    method = asked.recipe.method.factory
    folder = asked.flags["run_dir"]
    for flag in ("distributed", "resume"):
        if folder is None and asked.flags[flag]:
            of_all = ", one that all processes see" if flag == "distributed" else ""
            raise UsageError(f"--{flag}: name the folder by --run-dir{of_all}")
    folder = folder or _new_folder(method, asked.name)
    sinks = _sinks(asked.flags)
    how = {
        "stall_timeout": asked.flags["stall_timeout"],
        "loading": data.Loading(*(asked.flags[name] for name in LOADING)),
    }
    goes_on = False
    if asked.flags["resume"]:
        with train.together():
            goes_on = continued.continues(folder, asked, argv, sinks)
        train.check_alike(resume=goes_on)
    if goes_on:
        runs.resume(folder, steps=continued.steps_asked(asked, argv), **how)
    else:
        how |= {"command": command, "sinks": sinks, "remarks": asked.remarks}
        runs.start(asked.recipe, asked.source, folder, **how)
    finish(folder, evaluate=asked.flags["evaluate"])


def _sinks(flags: dict[str, Any]) -> tuple[str, ...]:
    sinks = tuple(name for name in ("tensorboard", "wandb") if flags[name])
    train.check_sinks(sinks)
    return sinks


def _new_folder(method: str, data: str) -> pathlib.Path:
    """runs/METHOD-DATA-K with the first K not taken."""
    stem = pathlib.Path(data).expanduser().resolve().stem or "data"
    method, stem = (name.replace(":", "-") for name in (method, stem))
    k = 1
    while pathlib.Path("runs", f"{method}-{stem}-{k}").exists():
        k += 1
    return pathlib.Path("runs", f"{method}-{stem}-{k}")
