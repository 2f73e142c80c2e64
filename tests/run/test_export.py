"""What an export holds, read by programs that know nothing of this library."""

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import assert_close
from safetensors import safe_open
from safetensors.numpy import load_file

from rl_jax import augment, data, methods, networks
from rl_jax.cli.recipe import read
from rl_jax.errors import RunError, UsageError
from rl_jax.networks import attention
from rl_jax.run import encode, export, export_record, pretrain
from rl_jax.run import recipe as recipes
from rl_jax.run.standalone import standalone, used_arguments
from rl_jax.run.trained import Run

SIMCLR = [
    *("simclr", "--batch-size", "16", "--encoder.widths", "3"),
    *("--projector.hidden", "4", "--projector.out", "2"),
]
CLIP = [
    *("clip", "--batch-size", "16", "--encoder", "mlp", "--encoder.features", "8"),
    *("--encoder.out", "8", "--text.width", "8", "--text.depth", "1", "--dim", "6"),
]


def run_of(*argv):
    """A run with parameters and statistics that are not those of the start."""
    augment = [] if "--augment" in argv else ["--augment", "digits"]
    asked = read("pretrain", [*argv, *augment])
    built = recipes.build(asked.recipe, asked.source)
    state = pretrain.initial(asked.recipe, built)()

    def move(x):
        if not jnp.issubdtype(x.dtype, jnp.floating):
            return x
        noise = 1 + 0.2 * np.sin(np.arange(x.size)).reshape(x.shape)
        return jax.device_put((np.asarray(x) + 0.1) * noise.astype(x.dtype), x.sharding)

    params, statistics = jax.tree.map(move, (state.params, state.state))
    state = state._replace(params=params, state=statistics)
    return Run(asked.recipe, {}, built, 7, state, state, None)


@pytest.fixture(scope="module")
def simclr():
    return run_of(*SIMCLR)


def written(run, output, monkeypatch):
    """The folder, and what was said."""
    said = []
    monkeypatch.setattr(export, "load", lambda folder, say, **_: run)
    found = export.export(output.parent, output, overwrite=True, say=said.append)
    return found, said


@pytest.fixture(scope="module")
def folder(simclr, tmp_path_factory):
    """An export into a folder that holds something else and an older export."""
    output = tmp_path_factory.mktemp("run") / "export"
    output.mkdir()
    (output / "notes.txt").write_text("mine")
    (output / "export.json").write_text("old")
    (output / "vocabulary.json").write_text("of a run that learned from texts")
    with pytest.MonkeyPatch.context() as patch:
        written(simclr, output, patch)
    return output


def record(folder):
    return json.loads((folder / "export.json").read_text())


def some(run, count=6):
    """Raw images, and what the run makes of them."""
    source = data.rows(run.parts.source, np.arange(40, 40 + count))
    found = encode(run.parts.method, run.parts.augment, run.state, source)
    return np.asarray(source.images), found


def test_what_is_in_the_folder(folder):
    names = {"encode.stablehlo", "export.json", "model.safetensors", "notes.txt"}
    assert {path.name for path in folder.iterdir()} == names
    assert "texts" not in record(folder)
    assert [path.name for path in folder.parent.iterdir()] == ["export"]
    found = record(folder)
    (function,) = found["functions"]
    assert (found["step"], found["network"]) == (7, "online")
    assert function["platforms"] == ["cpu", "cuda", "tpu"]
    assert function["inputs"] == [
        {"name": "image", "shape": ["b", 8, 8, 1], "dtype": "uint8"}
    ]
    outputs = {entry["name"]: entry["shape"] for entry in function["outputs"]}
    assert outputs == {"h": ["b", 3], "z": ["b", 2]}
    assert function["bytes"] == (folder / "encode.stablehlo").stat().st_size
    assert function["check"]["batch_sizes"] == [32, 8]


def test_tensors_are_those_of_the_record_and_of_the_encoder(folder):
    tensors = load_file(folder / "model.safetensors")
    found = record(folder)
    kept = {
        t["name"]: (tuple(t["shape"]), np.dtype(t["dtype"])) for t in found["tensors"]
    }
    assert kept == {name: (v.shape, v.dtype) for name, v in tensors.items()}
    assert {dtype for _, dtype in kept.values()} == {np.dtype("float32")}
    networks = {name.split("/")[1] for name in kept}
    assert networks == {"encoder", "projector"}
    with safe_open(folder / "model.safetensors", "np") as file:
        inside = json.loads(file.metadata()["export.json"])
    assert inside["tensors"] == found["tensors"]


def test_tensors_give_what_the_run_gives_bit_for_bit(folder, simclr):
    state = simclr.state
    params = jax.tree.map(jnp.zeros_like, state.params)
    statistics = jax.tree.map(jnp.zeros_like, state.state)
    for name, value in load_file(folder / "model.safetensors").items():
        at, *path, last = name.split("/")
        tree = params["method"] if at == "params" else statistics
        for key in path:
            tree = tree[key]
        tree[last] = jax.device_put(value, tree[last].sharding)
    images, expected = some(simclr)
    back = state._replace(params=params, state=statistics)
    found = encode(simclr.parts.method, simclr.parts.augment, back, data.arrays(images))
    assert set(found) == {"h", "z"}
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)


def test_numpy_alone_makes_h_of_the_tensors(tmp_path_factory):
    """Names, layouts, settings and the standardisation say all one needs."""
    two = run_of(*SIMCLR[:4], "4", *SIMCLR[4:])
    with pytest.MonkeyPatch.context() as patch:
        folder, _ = written(two, tmp_path_factory.mktemp("two"), patch)
    images, expected = some(two)
    tensors = load_file(folder / "model.safetensors")
    t = {name: value.astype(np.float64) for name, value in tensors.items()}
    rule = record(folder)["standardisation"]
    x = (images / 255 - np.array(rule["mean"])) / np.array(rule["std"])
    layouts = {entry["name"]: entry["layout"] for entry in record(folder)["tensors"]}
    assert layouts["params/encoder/Conv_0/kernel"].startswith("HWIO")
    told = record(folder)["layers"]
    of_encoder = [entry for entry in told if "/encoder/" in entry["layer"]]
    assert [entry["kind"] for entry in of_encoder] == ["Conv", "BatchNorm"] * 2
    assert (
        "BatchNorm and ReLU for each width" in record(folder)["architecture"]["encoder"]
    )
    for conv, norm in (of_encoder[:2], of_encoder[2:]):
        assert conv["dilation"] == [1, 1]
        assert conv["groups"] == 1
        kernel, (down, across) = t[f"{conv['layer']}/kernel"], conv["strides"]
        around = np.pad(x, ((0, 0), *conv["padding"], (0, 0)))
        sides = [around.shape[1 + k] - kernel.shape[k] + 1 for k in (0, 1)]
        x = sum(
            around[:, i : i + sides[0] : down, j : j + sides[1] : across] @ kernel[i, j]
            for i in range(kernel.shape[0])
            for j in range(kernel.shape[1])
        )
        running = norm["layer"].replace("params/encoder", "state/encoder/batch_stats")
        x -= t[f"{running}/mean"]
        x /= np.sqrt(t[f"{running}/var"] + norm["epsilon"])
        x = np.maximum(x * t[f"{norm['layer']}/scale"] + t[f"{norm['layer']}/bias"], 0)
    assert_close(expected["h"], x.mean((1, 2)), tolerance=1e-5)


ELSEWHERE = """
import sys
sys.modules["rl_jax"] = None
exec({snippet!r})
images = np.load({images!r})
np.savez({found!r}, **{{str(b): encode.call(images[:b])["h"] for b in (6, 5)}})
assert {{"h", "z"}} == set(found) and found["h"].shape == (5, 3)
"""


def test_jax_alone_runs_the_function(folder, simclr, tmp_path):
    """The lines of `export.json`, in a process that cannot import this library."""
    images, expected = some(simclr)
    np.save(tmp_path / "images.npy", images)
    program = ELSEWHERE.format(
        snippet="\n".join(record(folder)["usage"]["jax"]),
        images=str(tmp_path / "images.npy"),
        found=str(tmp_path / "found.npz"),
    )
    env = os.environ | {"XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", program], cwd=folder, env=env, check=True)
    with np.load(tmp_path / "found.npz") as found:
        for size in (6, 5):
            assert_close(found[str(size)], expected["h"][:size], tolerance=1e-6)


def test_the_lines_for_numpy_run(folder, monkeypatch):
    monkeypatch.chdir(folder)
    usage, scope = record(folder)["usage"], {}
    exec("\n".join(usage["numpy"]), scope)
    assert scope["kernel"].shape == (3, 3, 1, 3)
    assert usage["pytorch"][-1].endswith(".permute(3, 2, 0, 1)")


def test_what_differs_is_not_written(simclr, tmp_path, monkeypatch):
    wrong = export.jax_export.deserialize

    class Off:
        def __init__(self, content):
            self.call = lambda x: {
                k: 1.001 * v for k, v in wrong(content).call(x).items()
            }

    with monkeypatch.context() as patch:
        patch.setattr(export.jax_export, "deserialize", Off)
        message = "encode.stablehlo read back gives another h: it differs by"
        with pytest.raises(RunError, match=message):
            written(simclr, tmp_path / "out", monkeypatch)
    monkeypatch.setattr(
        export, "load_file", lambda p: {k: 2 * v for k, v in load_file(p).items()}
    )
    with pytest.raises(RunError, match="model.safetensors read back gives another h"):
        written(simclr, tmp_path / "out", monkeypatch)
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_is_a_file(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(UsageError, match="out is a file; name a folder with --output"):
        export.export(tmp_path, tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


def test_captions_have_a_function_of_their_own(tmp_path, monkeypatch):
    run = run_of(*CLIP)
    folder, said = written(run, tmp_path / "out", monkeypatch)
    image, text = record(folder)["functions"]
    assert [entry["name"] for entry in image["inputs"]] == ["image"]
    assert {entry["name"] for entry in image["outputs"]} == {"h", "z"}
    assert text["file"] == "encode_text.stablehlo"
    length = run.parts.source.fields["tokens"].shape[-1]
    assert text["inputs"] == [
        {"name": "tokens", "shape": ["b", length], "dtype": "int32"}
    ]
    assert [entry["name"] for entry in text["outputs"]] == ["text"]
    assert "encode_text.stablehlo: text [6], largest difference" in said[-1]
    tensors = load_file(folder / "model.safetensors")
    assert {"params/text_projection", "params/text/tokens"} <= set(tensors)


def encoded_by_the_note(folder, texts, monkeypatch):
    """What the lines for texts give, run in the folder with other texts in them."""
    lines = record(folder)["usage"]["texts"]
    (line,) = (line for line in lines if '["a text", "another"]' in line)
    lines[lines.index(line)] = line.replace('["a text", "another"]', repr(texts))
    scope = {}
    with monkeypatch.context() as patch:
        patch.chdir(folder)
        exec("\n".join(lines), scope)
    return scope["tokens"], scope["found"]


def test_a_new_text_is_encoded_by_the_note_alone(tmp_path, monkeypatch):
    """Of captions, whole words: those that training has seen have its tokens."""
    run = run_of(*CLIP)
    folder, _ = written(run, tmp_path / "out", monkeypatch)
    texts = ["A photo of the digit seven", "seven"]
    tokens, found = encoded_by_the_note(folder, texts, monkeypatch)
    prompts = data.digit_prompts().seen[7]
    np.testing.assert_array_equal(tokens, [prompts[0], prompts[5]])
    source = data.records({"tokens": tokens}, vocabulary=run.parts.source.vocabulary)
    expected = encode(run.parts.method, run.parts.augment, run.state, source)["text"]
    assert_close(found["text"], expected, tolerance=1e-5)


def test_a_text_is_cut_into_the_pieces_of_the_run(tmp_path, monkeypatch):
    path = tmp_path / "book.txt"
    path.write_text("Dogs run and Cats sleep, Dogs eat and Cats drink. é ✓\n" * 50)
    run = run_of(
        *("bert", "--data", str(path), "--data.length", "12", "--data.no-lowercase"),
        *("--batch-size", "8", "--encoder.width", "8", "--encoder.heads", "2"),
        *("--augment", "none"),
    )
    folder, _ = written(run, tmp_path / "out", monkeypatch)
    text = run.parts.source.fields["tokens"][:1]
    learned = data.pieces(run.parts.source.vocabulary, lowercase=False)
    said = learned.decode(text[0])
    assert said.startswith("Dogs run")
    tokens, found = encoded_by_the_note(folder, [said], monkeypatch)
    np.testing.assert_array_equal(tokens, text)
    assert found["h"].shape == (1, 8)
    assert record(folder)["texts"]["lowercase"] is False


@pytest.mark.slow
def test_nothing_is_chosen_for_the_card_it_is_exported_on(monkeypatch):
    """A card that has fused attention, and a function for every platform."""
    network = networks.vit(
        patch=4, width=8, depth=1, heads=1, dtype="bfloat16", pool="mean"
    )
    method = methods.simclr(network, networks.projection_head(hidden=4, out=2))
    views = augment.digits()
    batch = {"index": jnp.arange(2), "image": jnp.zeros((2, 8, 8, 1), jnp.uint8)}
    params, state = method.init(
        jax.random.key(0), views.views(jax.random.key(1), batch)
    )
    example = {"image": ((8, 8, 1), np.uint8), "index": ((), np.int32)}

    def fails(*_):
        raise AssertionError("asked for the card of this machine")

    monkeypatch.setattr(attention, "_works", fails)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    found = standalone(method, views, params, state, example)
    assert set(found.exported.platforms) == {"cpu", "cuda", "tpu"}
    with pytest.raises(AssertionError, match="asked for the card"):
        network.apply(*network.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1))),
                      jnp.zeros((1, 8, 8, 1)), train=False)  # fmt: skip


def test_only_what_an_output_depends_on_is_used():
    def f(a, b, c, d):
        dead = jnp.sin(b) + d
        return jax.jit(lambda x, y: x * y)(a, c), dead.shape[0]

    x = jnp.ones(3)
    assert used_arguments(jax.make_jaxpr(f)(x, x, x, x)) == [0, 2]


def test_standardisation_is_read_off_the_augmentation():
    found = export_record.standardisation(augment.cifar(size=16), (20, 18, 3))
    assert_close(found["mean"], (0.4914, 0.4822, 0.4465), tolerance=1e-5)
    assert_close(found["std"], (0.2470, 0.2435, 0.2616), tolerance=1e-5)
    assert found["size"] == [16, 16]
    bent = augment.digits()._replace(clean=lambda image: (image / 255) ** 2)
    assert export_record.standardisation(bent, (8, 8, 1)) is None
    assert export_record.standardisation(augment.digits(), ()) is None
