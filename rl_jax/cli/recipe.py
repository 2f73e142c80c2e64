"""A recipe from the arguments of a command: `pretrain` and `plan` share it."""

import argparse
import inspect
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from rl_jax import data, networks
from rl_jax.cli import options
from rl_jax.errors import UsageError
from rl_jax.run import presets
from rl_jax.run import recipe as recipes
from rl_jax.run.recipe import Recipe, Spec

PARTS = {
    "encoder": recipes.ENCODERS,
    "augment": recipes.AUGMENTS,
    "optimizer": recipes.OPTIMIZERS,
}

FILLED_IN = ("total_steps", "batch_size")
"""Arguments of parts that follow from those of the run."""

FILLED_IN_ONE = {"predictor_options": ("out",), "method": ("split",)}
"""Those of one part that follow from other parts."""

Open = Callable[[str, int | None], tuple[Spec, data.Source]]


class Asked(NamedTuple):
    """What the arguments of a command ask for.

    Attributes:
      recipe: what to train.
      source: its data, opened.
      name: how the user called the data.
      flags: the value of every flag.
    """

    recipe: Recipe
    source: data.Source
    name: str
    flags: dict[str, Any]


def open_data(name: str, size: int | None) -> tuple[Spec, data.Source]:
    """The data set a user names; `size` as in `recipe.data_spec`."""
    spec = recipes.data_spec(name, size=size)
    return spec, recipes.build_source(spec)


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
      open_data: finds the data by the value of --data and the size of its images.

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
                f"METHOD is one of: {names}\n"
                f"rl-jax {command} METHOD --help lists the options, with the defaults "
                "that fit the data."
            )
            return None
        raise UsageError(f"{command}: name a method first; there are: {names}")
    method = recipes.find(recipes.METHODS, argv[0], "method")
    chosen = _chosen(argv[1:])
    spec, source = open_data(chosen.data, chosen.image_size)
    preset = presets.for_data(spec.factory, source.image_shape)
    preset = presets.for_steps(preset, chosen.steps or preset.steps)
    factories = {
        part: recipes.find(known, getattr(chosen, part) or getattr(preset, part), part)
        for part, known in PARTS.items()
    }
    flags = options.parse(
        _command(method, preset, factories, more or {}, doc),
        prog=f"rl-jax {command} {method.__name__}",
        argv=argv[1:],
    )
    return Asked(_recipe(method, spec, flags), source, chosen.data, flags)


def _chosen(argv: Sequence[str]) -> argparse.Namespace:
    """The flags that decide which other flags there are."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    # A flag without its value is let pass: tyro refuses it with a better message.
    parser.add_argument("--data", nargs="?", default="digits", const="digits")
    parser.add_argument("--image-size", "--image_size", nargs="?", type=_int_or_none)
    parser.add_argument("--steps", nargs="?", type=_int_or_none)
    for part in PARTS:
        parser.add_argument(f"--{part}", nargs="?")
    return parser.parse_known_args(list(argv))[0]


def _int_or_none(text: str) -> int | None:
    """A number, or None for what tyro will refuse with a better message."""
    return int(text) if text.isdigit() else None


def _command(method, preset: presets.Preset, factories: dict, more, doc: str):
    """The function whose signature is the command's: run, method, then the parts."""

    def command(**arguments):
        return arguments

    def defaults(part: str) -> dict[str, Any]:
        mine = part not in PARTS or getattr(preset, part) == factories[part].__name__
        return preset.arguments.get(part, {}) if mine else {}

    name = method.__name__
    parameters = {
        "data": (str, "digits"),
        "image_size": (int | None, None),
        "run_dir": (pathlib.Path | None, None),
        "steps": (int, preset.steps),
        "batch_size": (int, preset.batch_size),
        "seed": (int, 0),
        "probe": (bool, True),
        "evaluate": (bool, True),
        "log_every": (int, preset.log_every),
        "checkpoint_every": (int, preset.checkpoint_every),
        "tensorboard": (bool, False),
        "wandb": (bool, False),
    }
    parameters |= {
        part: (options.choice(known), factories[part].__name__)
        for part, known in PARTS.items()
    }
    groups = {"method": (method, "", defaults(name))}
    groups |= {
        f"{part}_options": (f, part, defaults(part)) for part, f in factories.items()
    }
    heads = {
        "projector": networks.projection_head,
        "predictor": networks.prediction_head,
    }
    for part, factory in heads.items():
        if part in inspect.signature(method).parameters:
            groups[f"{part}_options"] = (factory, part, defaults(part))
    for key, (factory, flag, values) in groups.items():
        filled = (*FILLED_IN, *FILLED_IN_ONE.get(key, ()))
        kind = options.group(factory, flag, values, without=filled)
        parameters[key] = (kind, inspect.Parameter.empty)
    parameters |= more
    summary = (inspect.getdoc(method) or "").split("\n")[0]
    command.__doc__ = DOC.format(summary=summary) + doc
    return options.signature(command, parameters)


DOC = """{summary}

Args:
  data: digits, a folder of images, or an .npz or .npy file.
  image_size: side in pixels to which images of a folder are decoded.
  run_dir: folder of the run; by default a new one below runs/.
  steps: optimizer steps of the whole run.
  batch_size: images of one step, over all devices.
  seed: of the initialisation, the order of images and all noise.
  probe: train an online linear probe where there are labels; the encoder never sees it.
  evaluate: evaluate and write the page when trained.
  log_every: steps between rows of metrics.
  checkpoint_every: steps between checkpoints.
  tensorboard: write TensorBoard files too (pip install 'rl-jax[tb]').
  wandb: log to Weights & Biases too (pip install 'rl-jax[wandb]').
  encoder: the network; --encoder.NAME are its options.
  augment: the augmentation; --augment.NAME are its options.
  optimizer: the optimizer; --optimizer.NAME are its options.
"""


def _recipe(method, data: Spec, flags: dict[str, Any]) -> Recipe:
    run = {
        name: flags[name]
        for name in ("steps", "batch_size", "seed", "probe", "log_every",
                     "checkpoint_every")
    }  # fmt: skip
    spec = flags["method"]
    if "total_steps" in inspect.signature(method).parameters:
        spec = spec.given(total_steps=run["steps"])
    projector = flags["projector_options"]
    if "split" in inspect.signature(method).parameters:
        nets = (flags["encoder_options"], projector)
        spec = spec.given(split=max(net.arguments["split"] for net in nets))
    predictor = flags.get("predictor_options")
    if predictor is not None:
        predictor = predictor.given(out=projector.arguments["out"])
    length = {"total_steps": run["steps"], "batch_size": run["batch_size"]}
    return Recipe(
        data=data,
        augment=flags["augment_options"],
        encoder=flags["encoder_options"],
        projector=projector,
        predictor=predictor,
        method=spec,
        optimizer=flags["optimizer_options"].given(**length),
        **run,
    )
