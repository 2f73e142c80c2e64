"""What `export.json` says of the files of an export, and how they are read."""

import inspect
from typing import Any, NamedTuple

import jax
import numpy as np

from rl_jax import __version__, data, own
from rl_jax.run import recipe as recipes
from rl_jax.run.standalone import Standalone, layers
from rl_jax.run.trained import Run
from rl_jax.types import Augment

FORMAT = 1

NAMES = (
    "A tensor is called by its path: params (trained) or state (batch statistics), of "
    "a moving average state/target and state/target_state, then the network (encoder, "
    "projector, ...), then the layer, separated by slashes."
)


class Part(NamedTuple):
    """One function of an export, and what it is checked on.

    Attributes:
      file: its name in the folder.
      examples: a few of the run's data.
    """

    file: str
    examples: data.Source


def example(source: data.Source) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """Shape and dtype of one example's entry of a raw batch, by name."""
    found = {n: v for n, v in data.shapes(source).items() if n != "label"}
    return found | {"index": ((), np.dtype(np.int32))}


def record(
    run: Run, parts: list[tuple[Part, Standalone]], tensors: dict[str, np.ndarray]
) -> dict[str, Any]:
    """What `export.json` says, but for the comparison."""
    recipe = recipes.as_json(run.recipe)
    shape = run.parts.source.image_shape
    return {
        "format": FORMAT,
        "made_by": f"rl_jax {__version__}, jax {jax.__version__}",
        "method": recipe["method"],
        "networks": recipe["networks"],
        "network": run.parts.method.network,
        "step": run.step,
        "steps": run.recipe.steps,
        "augment": recipe["augment"],
        "standardisation": standardisation(run.parts.augment, shape),
        "functions": [_described(part, function) for part, function in parts],
        "architecture": _architecture(run.recipe),
        "layers": [
            layer
            for part, _ in parts
            for layer in layers(
                run.parts.method,
                run.parts.augment,
                run.state.params,
                run.state.state,
                example(part.examples),
            )
        ],
        "names": NAMES,
        "tensors": [
            {
                "name": name,
                "shape": list(value.shape),
                "dtype": str(value.dtype),
                "layout": _layout(name, value.ndim),
            }
            for name, value in tensors.items()
        ],
        "usage": _usage(parts, tensors),
    }


def _architecture(recipe: recipes.Recipe) -> dict[str, str]:
    """The networks in the words of their factories, without their arguments."""
    words = {}
    for role, spec in recipe.networks.items():
        factory = recipes.find(recipes.ROLES[role], spec.factory, role)
        told, _, _ = (inspect.getdoc(factory) or "").partition("\nArgs:")
        words[role] = " ".join(told.split())
    return words


def _described(part: Part, function: Standalone) -> dict[str, Any]:
    exported = function.exported
    outputs = jax.tree.unflatten(exported.out_tree, exported.out_avals)
    return {
        "file": part.file,
        "platforms": list(exported.platforms),
        "inputs": [
            {"name": name, "shape": ["b", *shape], "dtype": str(dtype)}
            for name, (shape, dtype) in function.inputs.items()
        ],
        "outputs": [
            {"name": k, "shape": ["b", *v.shape[1:]], "dtype": str(v.dtype)}
            for k, v in outputs.items()
        ],
    }


def standardisation(augment: Augment, shape: tuple[int, ...]) -> dict | None:
    """Mean and deviation of each channel, read off images of one colour.

    None without images, or where what is done to them is no such map.
    """
    if not shape:
        return None
    values = np.array([0, 255, 102], np.uint8)
    flat = np.ones((3, *shape), np.uint8) * values[:, None, None, None]
    clean = np.asarray(jax.jit(augment.clean)(flat))
    black, white, between = clean.mean((1, 2), dtype=np.float64)
    if not np.allclose(between, black + 0.4 * (white - black), atol=1e-5):
        return None
    std = 1 / (white - black)
    rule = "(pixel / 255 - mean) / std, part of the exported function"
    return {
        "rule": rule,
        "mean": [float(f"{m:.6g}") for m in -black * std],
        "std": [float(f"{s:.6g}") for s in std],
        "size": list(clean.shape[1:3]),
    }


TOKENIZERS = {"digits": "words", "topics": "words"}
"""How a data set cuts texts; those that are not here into `pieces`."""


def texts(run: Run) -> dict[str, Any] | None:
    """What makes tokens of a text; None without texts, or where own code made them."""
    source, spec = run.parts.source, run.recipe.data
    if not source.vocabulary or own.is_own(spec.factory):
        return None
    return {
        "rule": "lower case if so said, cut by data.pieces or data.words of rl_jax, "
        "then cut or padded with 0 to the length",
        "tokenizer": TOKENIZERS.get(spec.factory, "pieces"),
        "lowercase": bool(spec.arguments.get("lowercase", True)),
        "length": int(source.fields["tokens"].shape[-1]),
        "vocabulary": list(source.vocabulary),
    }


def usage_of_texts(part: Part, tokenizer: str) -> list[str]:
    """A program that encodes new texts, line by line, to be run in the folder."""
    return [
        "import json, pathlib, jax",
        "from jax import export",
        "from rl_jax import data",
        'told = json.loads(pathlib.Path("vocabulary.json").read_text())',
        f'cut = data.{tokenizer}(told["vocabulary"], lowercase=told["lowercase"])',
        'tokens = data.padded(cut.encode(["a text", "another"]), told["length"])',
        f'encode = export.deserialize(pathlib.Path("{part.file}").read_bytes())',
        "found = jax.jit(encode.call)(tokens)",
    ]


def _layout(name: str, ndim: int) -> str:
    last = name.rpartition("/")[2]
    if last == "kernel" and ndim == 4:
        return "HWIO: height, width, in, out; PyTorch has OIHW, permute(3, 2, 0, 1)"
    if ndim == 2 and last in ("tokens", "table"):
        return "a row for each token"
    if ndim == 2 and last == "positions":
        return "a row for each position"
    if ndim == 2 and last == "kernel":
        return "IO: in, out; PyTorch has OI, permute(1, 0)"
    if ndim == 1:
        return "a number for each channel"
    return "as the network has it"


def _usage(
    parts: list[tuple[Part, Standalone]], tensors: dict[str, np.ndarray]
) -> dict[str, list[str]]:
    """Programs, line by line, to be run in the folder."""
    part, function = parts[0]
    zeros = ", ".join(
        f"np.zeros({(5, *shape)}, np.{dtype})"
        for shape, dtype in function.inputs.values()
    )
    kernel = next((n for n in tensors if n.endswith("kernel")), next(iter(tensors)))
    order = {4: ".permute(3, 2, 0, 1)", 2: ".permute(1, 0)"}.get(tensors[kernel].ndim)
    return {
        "jax": [
            "import jax, numpy as np",
            "from jax import export",
            f'encode = export.deserialize(open("{part.file}", "rb").read())',
            f"found = jax.jit(encode.call)({zeros})",
        ],
        "numpy": [
            "from safetensors.numpy import load_file",
            f'kernel = load_file("model.safetensors")["{kernel}"]',
        ],
        "pytorch": [
            "from safetensors.torch import load_file",
            f'weight = load_file("model.safetensors")["{kernel}"]{order or ""}',
        ],
    }
