"""A recipe from the arguments of a command: `pretrain` and `plan` share it."""

import argparse
import functools
import inspect
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from rl_jax import data, own, train
from rl_jax.cli import options
from rl_jax.errors import UsageError
from rl_jax.run import datasets, labelled, presets, torch_file, weights
from rl_jax.run import recipe as recipes
from rl_jax.run.complete import FILLED_IN, complete
from rl_jax.run.init_from import InitFrom
from rl_jax.run.recipe import Recipe, Spec
from rl_jax.run.watchdog import TIMEOUT

FILLED_IN_ONE = {
    "predictor": ("out",),
    "method": ("split",),
    "data": ("path", "captions", "vocabulary"),
}
"""Arguments of one part that follow from other parts, beside `FILLED_IN`."""

Open = Callable[[str, datasets.Kind, Sequence[str], str], tuple[Spec, data.Source]]


class Asked(NamedTuple):
    """What the arguments of a command ask for.

    Attributes:
      recipe: what to train.
      source: its data, opened.
      name: how the user called the data.
      flags: the value of every flag.
      remarks: what was chosen without being asked for, a line each.
    """

    recipe: Recipe
    source: data.Source
    name: str
    flags: dict[str, Any]
    remarks: list[str]


def open_data(
    name: str, kind: datasets.Kind, argv: Sequence[str], prog: str
) -> tuple[Spec, data.Source]:
    """The data set a user names, with the `--data.NAME` flags among `argv`."""
    factory, decided = datasets.chosen(name, kind)
    if not _has_options(factory, kind):
        spec = Spec(factory.__name__, decided)
        return spec, datasets.build(spec)

    def command(**given):
        return given["data"]

    usual = datasets.usual(factory, decided)
    kind_of = (_data_options(factory, usual, kind), inspect.Parameter.empty)
    command = options.signature(command, {"data": kind_of})
    spec = options.parse(command, prog=prog, argv=_data_flags(argv))
    spec = spec.given(**decided)
    recipes.check_held(spec)
    return spec, datasets.build(spec)


def _data_options(
    factory: Callable, defaults: Mapping[str, Any], kind: datasets.Kind
) -> Any:
    return options.group(factory, "data", defaults, without=_decided(factory, kind))


def _has_options(factory: Callable, kind: datasets.Kind) -> bool:
    return bool({*inspect.signature(factory).parameters} - {*_decided(factory, kind)})


def _decided(factory: Callable, kind: datasets.Kind) -> tuple[str, ...]:
    """Arguments of a data set that are no flags; a path is one of own code alone."""
    if own.is_own(factory.__name__):
        return ("captions",) if kind == "captions" else ()
    return FILLED_IN_ONE["data"]


def _data_flags(argv: Sequence[str]) -> list[str]:
    """Those flags of `argv` that are options of the data, and their values."""
    found, mine = [], False
    for word in argv:
        if word.startswith("--"):
            mine = word.startswith(("--data.", "--no-data."))
        if mine:
            found.append(word)
    return found


def read(
    command: str,
    argv: Sequence[str],
    *,
    more: Mapping[str, tuple[Any, Any]] | None = None,
    doc: str = "",
    open_data: Open = open_data,
) -> Asked | None:
    """Reads `METHOD [OPTIONS]`; the flags and their defaults follow from the data.

    Args:
      command: its name.
      argv: what follows the name.
      more: flags only this command has, `{name: (type, default)}`.
      doc: their lines of help.
      open_data: opens the data: value of --data, what is wanted, flags, program.

    Returns:
      What was asked for; None where it was help, which has been printed.

    Raises:
      UsageError: for an unknown method, part or data set.
    """
    if not argv or argv[0].startswith("-"):
        names = ", ".join(f.__name__ for f in recipes.METHODS)
        if argv and argv[0] in ("-h", "--help"):
            print(
                f"usage: rl-jax {command} METHOD [--data DATA] [OPTIONS]\n\n"
                f"METHOD is one of: {names}, or MODULE:FUNCTION of your own\n"
                f"rl-jax {command} METHOD --help lists the options, with the defaults "
                "that fit the data."
            )
            return None
        raise UsageError(f"{command}: name a method first; there are: {names}")
    own.import_of(argv[0])
    method = recipes.find_method(argv[0])
    prog = f"rl-jax {command} {method.__name__}"
    choices = _choices(method)
    options.check_pattern(argv)
    chosen = _chosen(argv[1:], choices)
    for part in choices:
        own.import_of(getattr(chosen, part))
    kind = datasets.kind(method)
    name = chosen.data or datasets.default(kind)
    spec, source = open_data(name, kind, argv[1:], prog)
    preset = presets.for_data(spec.factory, source.image_shape)
    preset = presets.for_method(preset, method.__name__)
    before, uncut = None, preset
    if chosen.init_from and "encoder" in choices:
        before = weights.encoder_of(chosen.init_from)
    if "encoder" in choices:
        usual = before.factory if before else _usual(preset, "encoder")
        patch = chosen.patch or (before and before.arguments.get("patch"))
        fitted = functools.partial(
            presets.for_network,
            *(preset, method.__name__, chosen.encoder or usual),
            trained=before is not None,
        )
        uncut, preset = fitted(patch=1), fitted(patch=patch)
    preset = presets.for_steps(preset, chosen.steps or preset.steps)
    few = {"labels": chosen.labels or labelled.ALL, "method": method.__name__}
    preset = presets.for_size(preset, labelled.seen(source, **few).size)
    if before is not None:
        preset = presets.for_encoder(preset, before)
        if torch_file.is_file(chosen.init_from):
            preset = presets.for_file(preset)
    try:
        factories = {
            k: recipes.find(known, getattr(chosen, k) or _usual(preset, k), k)
            for k, known in choices.items()
        }
    except own.NotImportedError:
        raise UsageError(
            f"--init-from {chosen.init_from}: its encoder is own code, and what a "
            "run's folder names is not imported; if you trust it, name it: --encoder "
            f"{_usual(preset, 'encoder')}"
        ) from None
    flags = options.parse(
        _command(method, name, spec, preset, factories, more or {}, doc),
        prog=prog,
        argv=argv[1:],
    )
    recipe = complete(_recipe(spec, tuple(factories), flags), source)
    remarks = [*datasets.choices(spec), *_cut(uncut, preset, recipe, argv)]
    return Asked(recipe, source, name, flags, remarks)


def _cut(
    uncut: presets.Preset, preset: presets.Preset, recipe: Recipe, argv: Sequence[str]
) -> list[str]:
    """A line for each side of an image that was changed for the encoder's patches."""
    sides = uncut.arguments.get("augment", {})
    given = {word.partition("=")[0] for word in argv}
    lines = []
    for name, now in preset.arguments.get("augment", {}).items():
        flag, was = f"--augment.{name.replace('_', '-')}", sides.get(name, now)
        kept = recipe.augment.arguments.get(name) == now and flag not in given
        if was != now and kept:
            patch = recipe.networks["encoder"].arguments.get("patch")
            lines.append(
                f"{flag} is {now}, not {was}, which patches of {patch} pixels do not "
                "divide; give both flags to have others"
            )
    return lines


def _choices(method: Callable) -> dict[str, tuple[Callable, ...]]:
    """The factories there are for each part of a run of this method."""
    choices = {role: recipes.ROLES[role] for role in recipes.roles(method)}
    return choices | {"augment": recipes.AUGMENTS, "optimizer": recipes.OPTIMIZERS}


def _usual(preset: presets.Preset, part: str) -> str:
    """The name of the factory a part has unless asked otherwise."""
    if part in ("augment", "optimizer"):
        return getattr(preset, part)
    return preset.networks.get(part, recipes.ROLES[part][0].__name__)


def _chosen(argv: Sequence[str], choices: Mapping) -> argparse.Namespace:
    """The flags that decide which other flags there are."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    # A flag without its value is let pass: tyro refuses it with a better message.
    parser.add_argument("--data", nargs="?")
    parser.add_argument("--steps", nargs="?", type=_int_or_none)
    parser.add_argument("--labels", nargs="?")
    parser.add_argument("--init-from", nargs="?", type=pathlib.Path)
    parser.add_argument("--encoder.patch", dest="patch", nargs="?", type=_int_or_none)
    for part in choices:
        parser.add_argument(f"--{part}", nargs="?")
    return parser.parse_known_args(list(argv))[0]


def _int_or_none(text: str) -> int | None:
    """A number, or None for what tyro will refuse with a better message."""
    return int(text) if text.isdigit() else None


def _command(method, name, spec, preset, factories, more, doc):
    """The function whose signature is the command's: run, method, then the parts."""

    def command(**arguments):
        return arguments

    def defaults(part: str) -> dict[str, Any]:
        mine = _usual(preset, part) == factories[part].__name__
        return preset.arguments.get(part, {}) if mine else {}

    choices = {
        part: dict.fromkeys((*known, factories[part]))
        for part, known in _choices(method).items()
    }
    parameters = {
        "data": (str, name),
        "run_dir": (pathlib.Path | None, None),
        "resume": (bool, False),
        "steps": (int, preset.steps),
        "batch_size": (int, preset.batch_size),
        "seed": (int, 0),
        "labels": (str, labelled.ALL),
        "init_from": (pathlib.Path | None, None),
        "probe": (bool, True),
        "evaluate": (bool, True),
        "log_every": (int, preset.log_every),
        "checkpoint_every": (int, preset.checkpoint_every),
        "knn_every": (int, recipes.Recipe._field_defaults["knn_every"]),
        "on_nonfinite": (Literal[train.POLICIES], train.POLICIES[0]),
        "nonfinite_limit": (int, recipes.Recipe._field_defaults["nonfinite_limit"]),
        "stall_timeout": (float, TIMEOUT),
        "tensorboard": (bool, False),
        "wandb": (bool, False),
        "workers": (int, data.IN_THREADS.workers),
        "threads": (int | None, data.IN_THREADS.threads),
        "data_timeout": (float, data.IN_THREADS.timeout),
        "distributed": (bool, False),
    }
    parameters |= {
        part: (options.choice(tuple(known)), factories[part].__name__)
        for part, known in choices.items()
    }
    groups = {"method": (method, "", preset.arguments.get(method.__name__, {}))}
    groups |= {f"{part}_options": (f, part, defaults(part))
               for part, f in factories.items()}  # fmt: skip
    for key, (factory, flag, values) in groups.items():
        filled = (*FILLED_IN, *FILLED_IN_ONE.get(flag or "method", ()))
        filled += () if flag else recipes.roles(method)
        kind = options.group(factory, flag, values, without=filled)
        parameters[key] = (kind, inspect.Parameter.empty)
    known = datasets.factory(spec)
    wanted = datasets.kind(method)
    if known is not None and _has_options(known, wanted):
        kind = _data_options(known, spec.arguments, wanted)
        parameters["data_options"] = (kind, inspect.Parameter.empty)
    parameters |= more
    summary = (inspect.getdoc(method) or "").split("\n")[0]
    parts = "".join(
        f"  {part}: {WORDS.get(part, 'the network of that role')}, or "
        f"MODULE:FUNCTION of your own; --{part}.NAME are its options.\n"
        for part in choices
    )
    command.__doc__ = DOC.format(summary=summary) + parts + doc
    return options.signature(command, parameters)


DOC = """{summary}

Args:
  data: a built-in data set, a folder of images, tar shards (a folder of them, a .tar,
    or train-{{0000..0099}}.tar), a dataset of Hugging Face (of save_to_disk, or
    Parquet), an .npz or .npy file, a folder with captions.csv or a text file, as the
    method needs, or MODULE:FUNCTION of your own; --data.NAME are its options.
  run_dir: folder of the run; by default a new one below runs/.
  resume: where --run-dir holds a run of this command already, continue it: the command
    starts a job and, back in its queue after exit code 75, goes on. --steps may be more
    than before, and what does not decide the result be otherwise.
  steps: optimizer steps of the whole run.
  batch_size: images of one step, over all devices.
  seed: of the initialisation, the order of images and all noise.
  labels: that training may see, drawn by the seed: numbers per class as 10, parts of
    them as 1%; supervised and vib then learn from those images alone.
  init_from: folder of a run whose encoder this one starts with, or a file of
    safetensors with an encoder of timm or torchvision; its factory and arguments are
    then the defaults here.
  probe: train an online linear probe where there are labels; the encoder never sees it.
  evaluate: evaluate and write the page when trained.
  log_every: steps between rows of metrics.
  checkpoint_every: steps between checkpoints.
  knn_every: steps between two scores of h by k-NN, of at most 1,000 held-out images by
    the labels of at most 5,000 others (of data without a held-out part, of every fifth
    image, which training sees too unless it may not); training is the same with and
    without. 0: none.
  on_nonfinite: where a loss, gradient or update is NaN or infinite, "halt" ends the
    run, "skip" goes on without that update; either way it changes nothing.
  nonfinite_limit: so many such steps in a row end the run in any case.
  stall_timeout: seconds without a step, compilation aside, after which the run writes
    its stacks and ends with exit code 5; 0: never.
  tensorboard: write TensorBoard files too (pip install 'rl-jax[tb]').
  wandb: log to Weights & Biases too (pip install 'rl-jax[wandb]').
  workers: processes that decode images where they do not fit into memory; 0: threads of
    this one do, which do not keep many processors busy.
  threads: decoding threads in each of them; by default as many as processors.
  data_timeout: seconds without a batch after which the run ends with exit code 5.
  distributed: train with the other processes of a job of Slurm, Open MPI, Kubernetes or
    a TPU, or of JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID.
"""

WORDS = {
    "encoder": "the network that is kept",
    "augment": "the augmentation",
    "optimizer": "the optimizer",
}


def _recipe(data: Spec, parts: Sequence[str], flags: dict[str, Any]) -> Recipe:
    run = {
        name: flags[name]
        for name in ("steps", "batch_size", "seed", "probe", "log_every", "labels",
                     "checkpoint_every", "knn_every", "on_nonfinite",
                     "nonfinite_limit")
    }  # fmt: skip
    if flags["init_from"] is not None:
        run["init_from"] = InitFrom(str(flags["init_from"].absolute()))
    chosen = {part: flags[f"{part}_options"] for part in parts}
    for spec in (flags["method"], *chosen.values()):
        recipes.check_held(spec)
    return Recipe(
        data=data,
        augment=chosen.pop("augment"),
        optimizer=chosen.pop("optimizer"),
        networks=chosen,
        method=flags["method"],
        **run,
    )
