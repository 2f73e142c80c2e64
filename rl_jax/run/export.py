"""A trained encoder as files that other programs read: safetensors and StableHLO."""

import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import export as jax_export
from safetensors.numpy import load_file, save

from rl_jax import data, own
from rl_jax.errors import RunError, UsageError
from rl_jax.run import check, export_record
from rl_jax.run import recipe as recipes
from rl_jax.run.encode import encode
from rl_jax.run.export_record import Part, example
from rl_jax.run.standalone import Standalone, named, standalone
from rl_jax.run.trained import Run, load

EXAMPLES = 32
ONLY_OF_TEXTS = ("encode_text.stablehlo", "vocabulary.json")
"""Files that not every export has: those of an export before are removed."""
WRITTEN = ("model.safetensors", "encode.stablehlo", *ONLY_OF_TEXTS, "export.json")


def export(
    folder: pathlib.Path,
    output: pathlib.Path | None = None,
    *,
    overwrite: bool = False,
    say: Callable[[str], None] = print,
) -> pathlib.Path:
    """Writes the encoder of a run's newest checkpoint, and reads it back to compare.

    `model.safetensors` has every tensor that h, z, ... depend on, float32, as they are
    named by their paths; `encode.stablehlo` is the function from raw inputs (uint8
    images) to these, serialised by `jax.export` with the weights inside, for any batch
    size on CPU, CUDA and TPU; `encode_text.stablehlo` is that of captions, where the
    method reads them; `vocabulary.json` is what makes tokens of texts, where there are
    any; `export.json` says what is in them, how they are read, and what the layers are
    set to that their tensors do not show (padding, strides, ε).

    Args:
      folder: of the run.
      output: a folder, made if need be; None: `export` in the run's folder, where an
        export of before is replaced.
      overwrite: replace files of these names in any other folder, too.
      say: called with a line for each thing compared.

    Returns:
      `output`.

    Raises:
      UsageError: for a folder without a run or a checkpoint, or an output that is a
        file or has such files already.
      RunError: where what was read back gives something else; nothing is written.
    """
    if output is not None and not overwrite:
        _check_empty(output)
    output = folder / "export" if output is None else output
    if output.exists() and not output.is_dir():
        raise UsageError(f"export: {output} is a file; name a folder with --output")
    if folder.is_dir():
        for each in (output, output.absolute().parent):
            check.output_folder("export: --output", each)
    run = _without_probe(load(folder, say=say, examples=False))
    method, augment = run.parts.method, run.parts.augment
    params, state = jax.device_get((run.state.params, run.state.state))
    with own.one_line(own.names(recipes.as_json(run.recipe))):
        parts = [
            (part, standalone(method, augment, params, state, example(part.examples)))
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
    record = export_record.record(run, parts, tensors)
    texts = export_record.texts(run)
    if texts:
        record["texts"] = {name: v for name, v in texts.items() if name != "vocabulary"}
        record["usage"]["texts"] = export_record.usage_of_texts(
            parts[-1][0], texts["tokenizer"]
        )

    output.parent.mkdir(parents=True, exist_ok=True)
    draft = pathlib.Path(tempfile.mkdtemp(prefix=".export-", dir=output.parent))
    try:
        metadata = {"export.json": json.dumps(record)}
        (draft / "model.safetensors").write_bytes(save(tensors, metadata))
        _check_tensors(run, draft / "model.safetensors", [part for part, _ in parts])
        size = (draft / "model.safetensors").stat().st_size
        say(
            f"model.safetensors: {len(tensors)} tensors of the {method.network} "
            f"network, {size:,} bytes, read back bit for bit"
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


def _check_empty(output: pathlib.Path) -> None:
    """Refuses a folder with an export, which may be another run's."""
    there = [name for name in WRITTEN if (output / name).exists()]
    if there:
        raise UsageError(
            f"export: {output} has {', '.join(there)} already; name another folder, or "
            "replace them with --overwrite"
        )


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
