"""What a run with captions is measured by: zero-shot and retrieval, and where."""

import json

import jax
import numpy as np
import pytest
from PIL import Image
from reference import evaluate as reference

from rl_jax import data, report, train
from rl_jax.cli import main
from rl_jax.cli.recipe import read
from rl_jax.run import encode, evaluation, pretrain, summary
from rl_jax.run import recipe as recipes
from rl_jax.run.embed import embed
from rl_jax.run.split import split
from rl_jax.run.texts import said, with_texts
from rl_jax.run.trained import Run

SMALL = [
    *("--batch-size", "16", "--encoder", "mlp", "--encoder.features", "8"),
    *("--encoder.out", "8", "--text.width", "8", "--dim", "6"),
]


def run_of(*argv):
    """A run at its first state."""
    asked = read("pretrain", ["clip", *SMALL, *argv])
    built = recipes.build(asked.recipe, asked.source)
    state = pretrain.initial(asked.recipe, built)()
    return Run(asked.recipe, {}, built, 0, state, state, None)


@pytest.fixture(scope="module")
def digits():
    return run_of()


def embedded(run, tokens):
    source = data.records({"tokens": tokens}, vocabulary=run.parts.source.vocabulary)
    return encode(run.parts.method, run.parts.augment, run.state, source)["text"]


def test_with_texts_equals_the_reference(digits):
    _, part, _ = split(digits.parts.source)
    held, prompts = part.source, data.digit_prompts()
    z = encode(digits.parts.method, digits.parts.augment, digits.state, held)["z"]
    found = with_texts(digits, part, z)
    for row, tokens in zip(found["zero_shot"], prompts, strict=True):
        u = embedded(digits, tokens.reshape(-1, 10)).reshape(10, -1, 6)
        expected = np.mean(reference.zero_shot(z, u) == held.labels)
        assert row["accuracy"] == pytest.approx(expected)
        assert (row["templates"], row["images"]) == (tokens.shape[1], 500)
    # Each digit's captions are the same, so there are 60 and not 3,000.
    retrieval = found["retrieval"]
    assert (retrieval["images"], retrieval["texts"]) == (500, 60)
    u = embedded(digits, prompts.seen.reshape(-1, 10))
    captions = 6 * held.labels[:, None] + np.arange(6)
    for k in (1, 5):
        to_text, to_image = reference.recall(z, u, captions, k)
        assert retrieval["image_to_text"][str(k)] == pytest.approx(to_text)
        assert retrieval["text_to_image"][str(k)] == pytest.approx(to_image)


def measured(study):
    """A table without measuring, which other tests do."""
    score = {"all": {"mean": 0.5, "std": None, "draws": 1}}
    table = [
        {"representation": name, "title": name, "network": "online", "dim": 1}
        | {"probe": score, "knn": score}
        for name in study.representations
    ]
    return {
        "classes": [],
        "labels_per_class": ["all"],
        "table": table,
        "reason": None,
        "notes": [],
        "sections": {},
    }


def test_evaluation_writes_says_and_shows_it(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "load", lambda folder, say: digits)
    monkeypatch.setattr(
        evaluation, "measure", lambda study, **options: (measured(study), {})
    )
    monkeypatch.setattr(evaluation, "_draw", lambda *arguments: None)
    result = evaluation.evaluate_run(tmp_path, say=lambda line: None)
    written = json.loads((tmp_path / "evaluation.json").read_text())
    assert written["texts"] == result["texts"]
    assert written["said"] == said(result["texts"])
    first, second = written["said"]
    accuracy = written["texts"]["zero_shot"][0]["accuracy"]
    assert first.startswith(
        f"zero-shot accuracy: {accuracy:.3f} with 6 prompts a class"
    )
    assert "with 2 that no caption has (500 images, 10 classes)" in first
    assert second.endswith("(500 images, 60 different texts)")
    assert f"{first}\n{second}" in summary.table(result)
    # A text is no representation of the image it belongs to.
    names = {row["representation"] for row in result["table"]}
    assert names == {"h", "z", "random", "raw"}
    recipes.write(digits.recipe, tmp_path / "run.json")
    page = report.write([tmp_path], tmp_path / "report.html").read_text()
    assert f"<p>{first}.</p>" in page
    assert f"<p>{second}.</p>" in page


def folder(path, *, captions=True, labels=True):
    rng = np.random.default_rng(0)
    lines = ["image,caption"]
    for i in range(60):
        name = ("cat", "dog")[i % 2]
        where = f"{name}/{i}.png" if labels else f"{i}.png"
        (path / where).parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 100, (8, 8, 3)) + 100 * (i % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(path / where)
        lines.append(f"{where},this is the {name} number {i % 10}")
    if captions:
        (path / "captions.csv").write_text("\n".join(lines))
    return str(path)


@pytest.mark.parametrize("labels", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_folder_with_captions(tmp_path, labels):
    """Its classes are named by sub-folders; without any there is retrieval only."""
    where = folder(tmp_path, labels=labels)
    run = run_of("--data", where, "--data.size", "8")
    _, part, _ = split(run.parts.source)
    z = encode(run.parts.method, run.parts.augment, run.state, part.source)["z"]
    found = with_texts(run, part, z)
    assert [row["templates"] for row in found["zero_shot"]] == [3] * labels
    assert found["retrieval"]["images"] == 6
    assert len(said(found)) == 1 + labels


def test_embedding_reads_captions_by_the_vocabulary_of_the_run(tmp_path, monkeypatch):
    """Also those of another folder, whose own vocabulary would be another."""
    run = run_of("--data", folder(tmp_path / "ours"), "--data.size", "8")
    monkeypatch.setattr("rl_jax.run.embed.load", lambda path, **_: run)
    theirs = tmp_path / "theirs"
    folder(theirs)
    said = ["a dog that nobody has seen before", "this is the cat number 3"]
    lines = ["image,caption", f"cat/0.png,{said[0]}", f"dog/1.png,{said[1]}"]
    (theirs / "captions.csv").write_text("\n".join([*lines, f"cat/0.png,{said[1]}"]))
    with np.load(embed(tmp_path, str(theirs), tmp_path / "found.npz")) as file:
        found = dict(file)
    tokenizer = data.pieces(run.parts.source.vocabulary)
    length = run.recipe.data.arguments["length"]
    u = embedded(run, data.padded(tokenizer.encode(said), length))
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    assert found["h"].shape == (2, 8)
    np.testing.assert_array_equal(found["label"], [0, 1])
    np.testing.assert_allclose(found["text"], [u.mean(0), u[1]], atol=1e-5)

    (theirs / "captions.csv").unlink()
    with np.load(embed(tmp_path, str(theirs), tmp_path / "bare.npz")) as file:
        assert "text" not in file
        assert file["z"].shape == (60, 6)


@pytest.mark.parametrize("method", ["clip", "siglip"])
def test_a_folder_without_captions_is_refused(tmp_path, capsys, method):
    where = folder(tmp_path, captions=False)
    with pytest.raises(SystemExit) as stopped:
        main(["pretrain", method, "--data", where])
    assert stopped.value.code == 2
    out = capsys.readouterr()
    assert "captioned: expected one of captions.csv and captions.jsonl in" in out.err
    assert len(out.err.strip().splitlines()) == 1
    assert not out.out


@pytest.mark.slow
@pytest.mark.parametrize("method", ["clip", "siglip"])
def test_the_preset_of_digits_tells_them_apart(method):
    recipe, source, _, _ = read("pretrain", [method])
    built = recipes.build(recipe, source)
    state = train.fit(
        built.method,
        source,
        augment=built.augment,
        optimizer=built.optimizer,
        steps=recipe.steps,
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        mesh=train.data_mesh(jax.devices()[:1]),
    )
    run = Run(recipe, {}, built, recipe.steps, state, state, None)
    _, part, _ = split(run.parts.source)
    z = encode(run.parts.method, run.parts.augment, run.state, part.source)["z"]
    known, unseen = with_texts(run, part, z)["zero_shot"]
    print(method, known["accuracy"], unseen["accuracy"])
    assert known["accuracy"] >= 0.95
    assert unseen["accuracy"] >= 0.9
