"""A trained encoder as files that other programs read: safetensors and StableHLO."""

import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import export as jax_export
from safetensors.numpy import load_file, save

from rl_jax import __version__, data
from rl_jax.errors import RunError, UsageError
from rl_jax.run import check
from rl_jax.run import recipe as recipes
from rl_jax.run.encode import encode
from rl_jax.run.standalone import Standalone, named, standalone
from rl_jax.run.trained import Run, load
from rl_jax.types import Augment

FORMAT = 1
EXAMPLES = 32
ONLY_OF_TEXTS = ("encode_text.stablehlo", "vocabulary.json")
"""Files that not every export has: those of an export before are removed."""

NAMES = (
    "A tensor is called by its path: params (trained) or state (batch statistics), "
    "then the network (encoder, projector, ...), then the layer, separated by slashes."
)


class Part(NamedTuple):
    """One function of an export, and what it is checked on.

    Attributes:
      file: its name in the folder.
      examples: a few of the run's data.
    """

    file: str
    examples: data.Source


def export(
    folder: pathlib.Path,
    output: pathlib.Path | None = None,
    *,
    say: Callable[[str], None] = print,
) -> pathlib.Path:
    """Writes the encoder of a run's newest checkpoint, and reads it back to compare.

    `model.safetensors` has every tensor that h, z, ... depend on, float32, as they are
    named by their paths; `encode.stablehlo` is the function from raw inputs (uint8
    images) to these, serialised by `jax.export` with the weights inside, for any batch
    size on CPU, CUDA and TPU; `encode_text.stablehlo` is that of captions, where the
    method reads them; `vocabulary.json` is what makes tokens of texts, where there are
    any; `export.json` says what is in them and how they are read.

    Args:
      folder: of the run.
      output: a folder, made if need be, in which files of these names are replaced;
        None: `export` in the run's folder.
      say: called with a line for each thing compared.

    Returns:
      `output`.

    Raises:
      UsageError: for a folder without a run or a checkpoint, or an output that is a
        file.
      RunError: where what was read back gives something else; nothing is written.
    """
    output = folder / "export" if output is None else output
    if output.exists() and not output.is_dir():
        raise UsageError(f"export: {output} is a file; name a folder with --output")
    if folder.is_dir():
        for each in (output, output.absolute().parent):
            check.output_folder("export: --output", each)
    run = _without_probe(load(folder, say=say, examples=False))
    method, augment = run.parts.method, run.parts.augment
    params, state = jax.device_get((run.state.params, run.state.state))
    parts = [
        (part, standalone(method, augment, params, state, _example(part.examples)))
        for part in _parts(run)
    ]
    if not any(function.exported.out_avals for _, function in parts):
        name = run.recipe.method.factory
        raise UsageError(f"export: {name} has no representation to export")
    leaves = named(params, state)
    used = {name for _, function in parts for name in function.used}
    tensors = {
        name: np.array(leaves[name], order="C") for name in leaves if name in used
    }
    record = _record(run, parts, tensors)
    texts = _texts(run)
    if texts:
        record["texts"] = {name: v for name, v in texts.items() if name != "vocabulary"}
        record["usage"]["texts"] = _usage_of_texts(parts[-1][0], texts["tokenizer"])

    output.parent.mkdir(parents=True, exist_ok=True)
    draft = pathlib.Path(tempfile.mkdtemp(prefix=".export-", dir=output.parent))
    try:
        metadata = {"export.json": json.dumps(record)}
        (draft / "model.safetensors").write_bytes(save(tensors, metadata))
        _check_tensors(run, draft / "model.safetensors", [part for part, _ in parts])
        size = (draft / "model.safetensors").stat().st_size
        say(
            f"model.safetensors: {len(tensors)} tensors, {size:,} bytes, read back bit "
            "for bit"
        )
        for (part, function), entry in zip(parts, record["functions"], strict=True):
            path = draft / part.file
            path.write_bytes(function.exported.serialize())
            entry["bytes"] = path.stat().st_size
            names = ", ".join(entry["platforms"])
            say(f"{part.file}: {entry['bytes']:,} bytes, for {names}")
            entry["check"] = _check_function(run, part, function, path, say)
        if texts:
            (draft / "vocabulary.json").write_text(json.dumps(texts, indent=1) + "\n")
        (draft / "export.json").write_text(json.dumps(record, indent=1) + "\n")
        output.mkdir(exist_ok=True)
        for name in ONLY_OF_TEXTS:
            if not (draft / name).exists():
                (output / name).unlink(missing_ok=True)
        for path in sorted(draft.iterdir(), key=lambda p: p.name == "export.json"):
            os.replace(path, output / path.name)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return output


def _without_probe(run: Run) -> Run:
    """The run with its method as it is without the online probe around it."""
    source = run.parts.source
    if not (run.recipe.probe and recipes.has_labels(source)):
        return run
    return run._replace(
        parts=recipes.build(run.recipe._replace(probe=False), source),
        state=run.state._replace(params=run.state.params["method"]),
    )


def _parts(run: Run) -> list[Part]:
    source = run.parts.source
    few = data.rows(source, np.arange(min(EXAMPLES, source.size)))
    if "text" not in run.recipe.networks:
        return [Part("encode.stablehlo", few)]
    tokens = few.fields["tokens"]
    one = tokens if tokens.ndim == 2 else tokens[:, 0]
    texts = data.records({"tokens": one}, vocabulary=source.vocabulary)
    return [
        Part("encode.stablehlo", few._replace(fields={})),
        Part("encode_text.stablehlo", texts),
    ]


def _example(source: data.Source) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    found = {n: v for n, v in data.shapes(source).items() if n != "label"}
    return found | {"index": ((), np.dtype(np.int32))}


def _record(
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
        "network": "online",
        "step": run.step,
        "steps": run.recipe.steps,
        "augment": recipe["augment"],
        "standardisation": _standardisation(run.parts.augment, shape),
        "functions": [_described(part, function) for part, function in parts],
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


def _standardisation(augment: Augment, shape: tuple[int, ...]) -> dict | None:
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


def _texts(run: Run) -> dict[str, Any] | None:
    """What makes tokens of a text; None for a run that has not learned from any."""
    source, spec = run.parts.source, run.recipe.data
    if not source.vocabulary:
        return None
    return {
        "rule": "lower case if so said, cut by data.pieces or data.words of rl_jax, "
        "then cut or padded with 0 to the length",
        "tokenizer": TOKENIZERS.get(spec.factory, "pieces"),
        "lowercase": bool(spec.arguments.get("lowercase", True)),
        "length": int(source.fields["tokens"].shape[-1]),
        "vocabulary": list(source.vocabulary),
    }


def _usage_of_texts(part: Part, tokenizer: str) -> list[str]:
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


def _check_tensors(run: Run, path: pathlib.Path, parts: list[Part]) -> None:
    """Refuses a file that does not give what the run gives, bit for bit."""
    ours, found = named(run.state.params, run.state.state), load_file(path)
    _, tree = jax.tree.flatten((run.state.params, run.state.state))
    leaves = [
        jax.device_put(found[name], leaf.sharding) if name in found else leaf
        for name, leaf in ours.items()
    ]
    params, state = jax.tree.unflatten(tree, leaves)
    again = run.state._replace(params=params, state=state)
    for part in parts:
        one, two = (
            encode(run.parts.method, run.parts.augment, each, part.examples)
            for each in (run.state, again)
        )
        for name, value in one.items():
            if not np.array_equal(value, two[name], equal_nan=True):
                raise RunError(f"export: {path.name} read back gives another {name}")


def _check_function(
    run: Run,
    part: Part,
    function: Standalone,
    path: pathlib.Path,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Compares the file with the run on a few examples, in batches of two sizes."""
    source = part.examples
    reference = encode(run.parts.method, run.parts.augment, run.state, source)
    batch = data.examples(source, np.arange(source.size, dtype=np.int32))
    given = [batch[name] for name in function.inputs]
    call = jax_export.deserialize(path.read_bytes()).call
    sizes = sorted({source.size, max(1, source.size // 4)}, reverse=True)
    nets = run.recipe.networks.values()
    rounded = any(net.arguments.get("dtype") == "bfloat16" for net in nets)
    tolerance = 2e-2 if rounded else 1e-4
    differences: dict[str, float] = {}
    for size in sizes:
        starts = range(0, source.size, size)
        rows = [call(*(x[i : i + size] for x in given)) for i in starts]
        for name in rows[0]:
            found = np.concatenate([np.asarray(row[name]) for row in rows])
            expected = reference[name]
            largest = float(np.max(np.abs(found - expected)))
            if not largest <= tolerance * float(np.max(np.abs(expected))):
                raise RunError(
                    f"export: {part.file} read back gives another {name}: it differs "
                    f"by {largest:.3g} in batches of {size}; nothing was written"
                )
            differences[name] = max(largest, differences.get(name, 0.0))
    count = " and ".join(map(str, sizes))
    for name, value in differences.items():
        equal = " (bit equal)" if value == 0 else ""
        width = reference[name].shape[1]
        say(
            f"{part.file}: {name} [{width}], largest difference {value:.3g}{equal} on "
            f"{source.size} examples in batches of {count}"
        )
    return {
        "examples": source.size,
        "batch_sizes": sizes,
        "largest_difference": differences,
        "relative_tolerance": tolerance,
    }
