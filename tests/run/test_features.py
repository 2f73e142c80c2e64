"""Features of any framework from a file: what is understood and what is refused."""

import json
import shutil

import numpy as np
import pytest

from rl_jax import evaluate, report
from rl_jax.cli import main
from rl_jax.errors import UsageError
from rl_jax.run import compare
from rl_jax.run.features import evaluate_features, read_features
from rl_jax.run.measures import SECTIONS

N, DIM = 120, 5
LIGHT = sorted(set(SECTIONS) - {"differences", "similarity"})


def arrays(*, seed=0, noise=0.4):
    rng = np.random.default_rng(seed)
    labels = np.arange(N) % 3
    x = 2.0 * np.eye(DIM)[labels] + noise * rng.normal(size=(N, DIM))
    return {"h": x, "raw": rng.normal(size=(N, 4)), "label": labels}


def saved(path, **content):
    np.savez(path, **content)
    return path


def test_names_parts_and_views_are_understood(tmp_path):
    content = arrays()
    content |= {"layer2": content["raw"], "h_view": content["h"] + 0.1}
    content |= {"layer1": content["h"], "factors": content["h"][:, :2]}
    content |= {"class_names": np.array(["a", "b", "c"])}
    content |= {"factor_names": np.array(["size", "hue"])}
    study, index, note = read_features(saved(tmp_path / "f.npz", **content))
    assert list(study.representations) == ["h", "raw"]
    assert list(study.layers) == ["layer1", "layer2"]
    assert (study.headline, study.baselines) == ("h", ("raw",))
    assert study.classes == ("a", "b", "c")
    assert study.factor_names == ("size", "hue")
    assert len(index) == len(study.labels.scored) == N // 5
    np.testing.assert_array_equal(study.labels.scored, content["label"][index])
    np.testing.assert_allclose(study.views["h"][1], study.views["h"][0] + 0.1, 1e-5)
    assert "every fifth" in note


@pytest.mark.parametrize("kind", [np.int64, np.uint8])
def test_integer_factors_keep_their_values(tmp_path, kind):
    """In 20 bins of equal width 40 values would be 20."""
    rng = np.random.default_rng(0)
    factors = rng.integers([40, 32], size=(3000, 2)).astype(kind)
    h = np.stack([factors[:, 0] // 4, factors[:, 1] + 0.0], axis=1)
    content = {"h": h + rng.normal(size=h.shape), "factors": factors}
    path = saved(tmp_path / "f.npz", **content, split=np.arange(3000) % 2)
    found = evaluate_features(path, tmp_path / "out", say=lambda line: None)
    (row,) = found["sections"]["factors"]["rows"]
    codes, true = read_features(path).study.representations["h"].scored, factors[1::2]
    expected = evaluate.mutual_information_gap(codes, true)
    assert row["scores"]["mig"]["value"] == pytest.approx(expected, abs=1e-9)
    assert abs(evaluate.mutual_information_gap(codes, true * 1.0) - expected) > 0.05


def test_a_split_is_followed(tmp_path):
    content = arrays() | {"split": np.repeat([0, 1], N // 2)}
    study, index, note = read_features(saved(tmp_path / "f.npz", **content))
    np.testing.assert_array_equal(index, np.arange(N // 2, N))
    assert len(study.labels.fit) == N // 2
    assert note == "the parts are those of the file"


def test_examples_are_known_by_their_numbers(tmp_path):
    half = N // 2
    content = arrays() | {"split": np.repeat([0, 1], half)}
    content["index"] = np.tile(np.arange(half)[::-1], 2)
    _, index, _ = read_features(saved(tmp_path / "f.npz", **content))
    np.testing.assert_array_equal(index, np.arange(half)[::-1])
    content.pop("raw")
    shuffled = np.random.default_rng(0).permutation(N)
    moved = {name: x[shuffled] for name, x in content.items()}
    folders = []
    for name, of in (("one", content), ("two", moved)):
        folders.append(tmp_path / name)
        path = saved(tmp_path / f"{name}.npz", **of)
        evaluate_features(path, folders[-1], skip=LIGHT, say=lambda line: None)
    found = compare.compare(folders, ["one", "two"])
    assert not found["notes"]
    assert [(row["difference"], row["images"]) for row in found["rows"]] == [
        (0.0, half)
    ] * 2
    assert found["cka"][0][1] == pytest.approx(1, abs=1e-5)


def test_the_headline_is_found_by_name_else_the_first_counts(tmp_path):
    x = arrays()["h"]
    for names, headline in ((("b", "features"), "features"), (("b", "a"), "b")):
        path = saved(tmp_path / "f.npz", **dict.fromkeys(names, x))
        study = read_features(path).study
        assert study.headline == headline
        assert next(iter(study.representations)) == headline


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"index": np.zeros(N, int)}, "each once among those that are scored"),
        ({"index": np.arange(N) - 1}, "from 0 and each once"),
        ({"index": np.arange(N) / 2}, "index must be integers [120], got float64"),
        ({"index": np.arange(3)}, "index must be integers [120], got int64 (3,)"),
        ({"h": np.full((N, DIM), np.nan)}, "h holds NaN or inf in 120 of 120 rows"),
        ({"h": np.zeros((N, 2, 2))}, "h must be numbers [120, D], got float64"),
        ({"raw": np.zeros((N - 1, 4))}, "raw must be numbers [120, D]"),
        ({"label": np.zeros(N) + 0.5}, "label must be whole numbers [120]"),
        ({"label": np.zeros(N - 1, int)}, "label must be whole numbers [120]"),
        ({"split": np.zeros(N, int)}, "split must be 0 (to learn from) or 1"),
        ({"h_view": np.zeros((N, 2))}, "h_view must have the shape of h"),
        ({"other_view": np.zeros((N, 2))}, "other_view must have the shape of other"),
        ({"h": np.array(["a"] * N)}, "h must be numbers"),
        ({"factors": np.full((N, 2), np.inf)}, "factors holds NaN or inf"),
        ({"label": np.full(N, 2**32 + 5)}, "label must be whole numbers [120] below"),
        ({"factor_names": np.array(["a"])}, "factor_names must be one for each column"),
    ],
)
def test_bad_arrays_are_refused_in_one_line(tmp_path, change, words):
    path = saved(tmp_path / "f.npz", **(arrays() | change))
    with pytest.raises(UsageError) as error:
        read_features(path)
    assert words in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_bad_files_are_refused(tmp_path):
    with pytest.raises(UsageError, match="does not exist; name an .npz file"):
        read_features(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(UsageError, match="is no .npz file of plain arrays"):
        read_features(tmp_path / "text.npz")
    with pytest.raises(UsageError, match="holds no representation"):
        read_features(saved(tmp_path / "f.npz", label=np.arange(3)))
    with pytest.raises(UsageError, match="1 rows are too few"):
        read_features(saved(tmp_path / "g.npz", h=np.ones((1, 3))))


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two evaluated files of the same examples, the second much noisier."""
    folder = tmp_path_factory.mktemp("features")
    quiet = {"say": lambda line: None, "skip": LIGHT}
    for name, noise in (("good", 0.3), ("bad", 2.5)):
        path = saved(folder / f"{name}.npz", **arrays(noise=noise))
        evaluate_features(path, folder / name, **quiet)
    return [folder / "good", folder / "bad"]


def test_the_record_says_what_was_measured(two):
    record = json.loads((two[0] / "evaluation.json").read_text())
    assert record["format"] == 2
    assert record["features"]["arrays"] == {"h": [N, DIM], "raw": [N, 4]}
    assert record["skipped"] == LIGHT
    assert [row["representation"] for row in record["table"]] == ["h", "raw"]
    assert list(record["sections"]) == ["differences"]
    with np.load(two[0] / "predictions.npz") as file:
        assert file["probe:h:all"].shape == (1, N // 5)
        np.testing.assert_array_equal(file["labels"], np.arange(N)[file["index"]] % 3)


def test_what_is_skipped_stays_while_the_file_is_the_same(tmp_path):
    quiet = {"say": lambda line: None}
    rest = sorted(set(LIGHT) - {"geometry"})
    for noise, kept in ((0.4, {"differences"}), (0.5, set())):
        path = saved(tmp_path / "f.npz", **arrays(noise=noise))
        if kept:
            evaluate_features(path, tmp_path / "out", skip=LIGHT, **quiet)
        evaluate_features(path, tmp_path / "out", skip=[*rest, "differences"], **quiet)
        record = json.loads((tmp_path / "out" / "evaluation.json").read_text())
        assert set(record["sections"]) == {"geometry"} | kept
        assert set(record["skipped"]) == {*rest, "differences"} - kept


def test_two_are_compared_on_the_same_examples(two):
    found = compare.compare(two, ["good", "bad"])
    probe, _ = found["rows"]
    tables = [json.loads((f / "evaluation.json").read_text())["table"] for f in two]
    means = [table[0]["probe"]["all"]["mean"] for table in tables]
    assert probe["difference"] == pytest.approx(means[0] - means[1])
    assert 0 < probe["low"] < probe["difference"] < probe["high"]
    assert probe["images"] == N // 5
    assert found["cka"][0][0] == 1.0
    assert found["cka"][0][1] == found["cka"][1][0] < 0.95
    assert not found["notes"]
    same = compare.compare([two[0], two[0]], ["a", "b"])
    assert [(r["difference"], r["low"], r["high"]) for r in same["rows"]] == [
        (0,) * 3
    ] * 2
    assert same["cka"][0][1] == pytest.approx(1)


def test_small_features_are_as_similar_as_large_ones(two, tmp_path):
    content = arrays(noise=2.5)
    content["h"] = 1e-9 * content["h"]
    path = saved(tmp_path / "small.npz", **content)
    evaluate_features(path, tmp_path / "small", skip=SECTIONS, say=lambda line: None)
    found = compare.compare([two[1], tmp_path / "small"], ["a", "b"])
    assert found["cka"][0][1] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda h: np.eye(len(h)), "all rows of y are equally far apart"),
        (lambda h: np.full_like(h, np.nan), "y must be finite, got NaN or inf"),
        (np.ones_like, "y is constant"),
        (lambda h: 1e6 + 0.06 * (h > 0), "y is constant up to rounding"),
    ],
    ids=["one-hot", "NaN", "constant", "rounding"],
)
def test_a_pair_without_cka_keeps_its_differences(two, tmp_path, change, words):
    folders = [two[0], tmp_path / "odd", two[1]]
    shutil.copytree(two[1], folders[1])
    with np.load(folders[1] / "predictions.npz") as file:
        content = dict(file)
    content["h"] = change(content["h"]).astype(np.float32)
    np.savez(folders[1] / "predictions.npz", **content)
    found = compare.compare(folders, ["good", "odd", "bad"])
    assert len(found["rows"]) == 3 * 2
    assert found["cka"][0][1] is None
    assert found["cka"][0][2] is not None
    first, second = found["notes"]
    assert first.startswith("no CKA of good (x) and odd (y): ")
    assert words in first
    assert second.startswith("no CKA of odd (x) and bad (y): ")


def test_other_examples_are_not_compared(two, tmp_path):
    content = arrays()
    content["label"] = content["label"][::-1].copy()
    path = saved(tmp_path / "other.npz", **content)
    evaluate_features(
        path, tmp_path / "other", skip=list(SECTIONS), say=lambda line: None
    )
    found = compare.compare([two[0], tmp_path / "other"], ["a", "b"])
    assert found["rows"] == []
    assert found["cka"] is None
    assert found["notes"] == ["a and b have scored different data"]
    # Without labels and inputs, nothing says that rows of one number are the same.
    path = saved(tmp_path / "bare.npz", h=arrays()["h"])
    evaluate_features(
        path, tmp_path / "bare", skip=list(SECTIONS), say=lambda line: None
    )
    found = compare.compare([tmp_path / "bare", tmp_path / "bare"], ["a", "b"])
    assert found["cka"] is None
    found = compare.compare([two[0], tmp_path], ["a", "b"])
    assert "b has no predictions to compare" in found["notes"][0]


def test_a_page_is_made_of_features(two, tmp_path):
    page = report.write(two[:1], tmp_path / "page.html").read_text()
    assert "good" in page
    page = report.write(two, tmp_path / "pages.html").read_text()
    assert "bad" in page
    assert "no differences between the runs" not in page
    assert "How alike the runs are" in page
    (first, *_) = compare.compare(two)["rows"]
    assert f"{100 * first['difference']:.1f} %" in page


def test_the_command_evaluates_features(tmp_path, capsys):
    path = saved(tmp_path / "f.npz", **arrays())
    main(["evaluate", "--features", str(path), "--skip", *LIGHT])
    said = capsys.readouterr().out
    assert "Differences" in said
    assert (tmp_path / "f.eval" / "report.html").exists()


def test_more_classes_than_cosines_are_recorded_of_have_a_page(tmp_path, capsys):
    labels = np.arange(390) % 130
    rng = np.random.default_rng(0)
    x = rng.normal(size=(130, DIM))[labels] + 0.1 * rng.normal(size=(390, DIM))
    path = saved(tmp_path / "f.npz", h=x, label=labels)
    rest = sorted(set(SECTIONS) - {"collapse"})
    main(["evaluate", "--features", str(path), "--skip", *rest])
    line = "no cosines of 130 class means: up to 128 are recorded"
    assert line in capsys.readouterr().out
    page = (tmp_path / "f.eval" / "report.html").read_text()
    assert line in page
    assert "NC1 within classes" in page


def test_parts_of_the_labels_are_columns_of_the_table(tmp_path, capsys):
    """1 % of 32 labels is one of each class, 10 % are three; the page has both."""
    path = saved(tmp_path / "f.npz", **arrays(noise=1.5))
    flags = ["--labels", "1", "1%", "10%", "--skip", *SECTIONS]
    main(["evaluate", "--features", str(path), *flags])
    said = capsys.readouterr().out
    assert "1, 1%, 10%, all labels per class (% of them)" in said
    record = json.loads((tmp_path / "f.eval" / "evaluation.json").read_text())
    assert record["labels_per_class"] == ["1", "1%", "10%", "all"]
    h = record["table"][0]
    for kind in ("probe", "knn"):
        # One of each class is what a hundredth rounds up to, and of the same draws.
        assert h[kind]["1%"] == h[kind]["1"]
        assert h[kind]["1%"]["mean"] < h[kind]["10%"]["mean"]
        assert h[kind]["10%"]["draws"] == 10
    page = (tmp_path / "f.eval" / "report.html").read_text()
    assert ">10%<" in page


def test_help_names_every_section(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", "--help"])
    assert not stopped.value.code
    said = capsys.readouterr().out
    assert [name for name in SECTIONS if name not in said] == []


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "name the folder of at least one run, or --features FILE.npz"),
        (["--features", "none.npz"], "none.npz does not exist"),
        (["--features", "a.npz", "--skip", "speed"], "no section 'speed'; there are:"),
        (["--features", "a.npz", "--labels", "some"], "as 1%, got 'some'"),
    ],
)
def test_the_command_refuses(argv, words, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", *argv])
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
