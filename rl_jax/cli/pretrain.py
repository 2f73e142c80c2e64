"""`rl-jax pretrain METHOD`: from images to an encoder, its measure and a page."""

import argparse
import inspect
import pathlib
import shlex
from collections.abc import Sequence
from typing import Any

from rl_jax import networks, train
from rl_jax.cli import options
from rl_jax.cli.cache import enable_compilation_cache
from rl_jax.cli.runs import finish
from rl_jax.errors import UsageError
from rl_jax.run import presets
from rl_jax.run import pretrain as runs
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


def pretrain(argv: Sequence[str]) -> None:
    """Parses the arguments, trains, evaluates and reports."""
    enable_compilation_cache()
    if not argv or argv[0].startswith("-"):
        names = ", ".join(f.__name__ for f in recipes.METHODS)
        if argv and argv[0] in ("-h", "--help"):
            print(
                "usage: rl-jax pretrain METHOD [--data DATA] [OPTIONS]\n\n"
                f"METHOD is one of: {names}\n"
                "rl-jax pretrain METHOD --help lists the options, with the defaults "
                "that fit the data."
            )
            return
        raise UsageError(f"pretrain: name a method first; there are: {names}")
    method = recipes.find(recipes.METHODS, argv[0], "method")
    chosen = _chosen(argv[1:])
    spec = recipes.data_spec(chosen.data, size=chosen.image_size)
    source = recipes.build_source(spec)
    preset = presets.for_data(spec.factory, source.image_shape)
    preset = presets.for_steps(preset, chosen.steps or preset.steps)
    factories = {
        part: recipes.find(known, getattr(chosen, part) or getattr(preset, part), part)
        for part, known in PARTS.items()
    }
    parsed = options.parse(
        _command(method, preset, factories),
        prog=f"rl-jax pretrain {method.__name__}",
        argv=argv[1:],
    )
    recipe = _recipe(method, spec, parsed)
    command = shlex.join(["rl-jax", "pretrain", *argv])
    folder = parsed["run_dir"] or _new_folder(method.__name__, chosen.data)
    runs.start(recipe, source, folder, command=command, sinks=_sinks(parsed))
    finish(folder, evaluate=parsed["evaluate"])


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


def _command(method, preset: presets.Preset, factories: dict):
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
    command.__doc__ = DOC.format(summary=(inspect.getdoc(method) or "").split("\n")[0])
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


def _recipe(method, data: Spec, parsed: dict[str, Any]) -> Recipe:
    run = {
        name: parsed[name]
        for name in ("steps", "batch_size", "seed", "probe", "log_every",
                     "checkpoint_every")
    }  # fmt: skip
    spec = parsed["method"]
    if "total_steps" in inspect.signature(method).parameters:
        spec = _with(spec, total_steps=run["steps"])
    projector = parsed["projector_options"]
    if "split" in inspect.signature(method).parameters:
        nets = (parsed["encoder_options"], projector)
        spec = _with(spec, split=max(net.arguments["split"] for net in nets))
    predictor = parsed.get("predictor_options")
    if predictor is not None:
        predictor = _with(predictor, out=projector.arguments["out"])
    length = {"total_steps": run["steps"], "batch_size": run["batch_size"]}
    return Recipe(
        data=data,
        augment=parsed["augment_options"],
        encoder=parsed["encoder_options"],
        projector=projector,
        predictor=predictor,
        method=spec,
        optimizer=_with(parsed["optimizer_options"], **length),
        **run,
    )


def _with(spec: Spec, **arguments) -> Spec:
    return spec._replace(arguments=spec.arguments | arguments)


def _sinks(parsed: dict[str, Any]) -> tuple[str, ...]:
    sinks = tuple(name for name in ("tensorboard", "wandb") if parsed[name])
    train.check_sinks(sinks)
    return sinks


def _new_folder(method: str, data: str) -> pathlib.Path:
    """runs/METHOD-DATA-K with the first K not taken."""
    stem = pathlib.Path(data).expanduser().resolve().stem or "data"
    k = 1
    while pathlib.Path("runs", f"{method}-{stem}-{k}").exists():
        k += 1
    return pathlib.Path("runs", f"{method}-{stem}-{k}")
