"""The page holds what it must, says what is missing, and runs nothing."""

import base64
import io
import re
import subprocess
import sys

import numpy as np
import pytest
from pages import page, plain
from PIL import Image

from rl_jax import report
from rl_jax.errors import UsageError
from rl_jax.evaluate import wilson_interval
from rl_jax.report.words import sampling


def test_one_run_shows_everything(runs):
    text = page(runs("first"))
    seen = plain(text)
    assert "SimCLR on digits" in seen
    assert re.search(r"85\.3 ± 1\.0 % linear-probe accuracy of h", seen)
    assert "10 labels per class, 500 test images" in seen
    assert "6.3 points above raw pixels and 15.3 points above the untrained" in seen
    assert "the online network of step 100 on clean images" in seen
    for title in (
        *("Loss", "Collapse meter", "Uniformity", "Alignment", "Online probe"),
        *("Gradient norm", "Throughput", "Waiting for data", "queue valid"),
        *("Effective rank of z", "Effective rank of h", "Softmax entropy"),
        *("Views of the first batch", "Nearest neighbours", "Geometry"),
        *("Map of the representation", "Linear probe by number of labels"),
    ):
        assert f"<h3>{title}</h3>" in text
    assert "✓ healthy: std 0.225, expected 0.250 for D=16: embeddings are" in seen
    assert "✓ z: effective rank 7.5 of 16" in seen
    assert "3 of 6 are of its class" in seen
    assert "rl-jax pretrain simclr --steps 100" in seen
    assert "learning_rate 0.003" in seen
    assert "widths [8, 16]" in seen
    assert "8 x cpu (cpu)" in seen
    assert "100 of 100 steps" in seen


def test_best_of_the_trained_is_bold_and_unbeaten_baselines_are_marked(runs):
    text = page(runs())
    best = re.findall(r'<td class="best">([\d.]+)', text)
    assert best == ["50.0", "85.3", "96.0", "84.0", "95.0", "55.0"]
    assert re.search(r"97\.0<small> †</small>", text)
    assert "this baseline is not beaten" in text
    assert text.count("†</small>") == 1


def test_parts_of_the_labels_are_no_numbers_per_class_and_stand_by_size(runs):
    shares = ["10", "1%", "10%", "0.5%", "2", "all"]
    content = runs.evaluation(labels_per_class=shares)
    for row in content["table"]:
        for kind in ("probe", "knn"):
            row[kind] = {s: {"mean": 0.1 * i, "std": 0} for i, s in enumerate(shares)}
    text = page(runs(evaluation=content))
    heads = re.findall(r'<th scope="col">([^<]*)</th>', text)[:6]
    assert heads == ["10/class", "1%", "10%", "0.5%", "2/class", "all"]
    assert "labels of each class, or such a part of them, as the column" in plain(text)
    said = re.search(r'aria-label="Linear probe accuracy against([^"]*)"', text).group()
    # Numbers per class, parts of the labels, all: each from the least to the most.
    assert "h 40.0, 0.0, 30.0, 10.0, 20.0, 50.0 %" in said


def test_the_headline_says_below_and_within_the_noise(runs):
    content = runs.evaluation()
    content["table"][0]["probe"]["10"]["mean"] = 0.785
    seen = plain(page(runs(evaluation=content)))
    assert "h is 0.5 points below raw pixels (within the noise) and 8.5 points" in seen


def test_the_headline_says_level_where_nothing_is_between(runs):
    content = runs.evaluation()
    content["table"][0]["probe"]["10"]["mean"] = 0.79
    assert "h is level with raw pixels" in plain(page(runs(evaluation=content)))


def test_of_six_images_all_right_says_little(runs):
    """Wilson's interval, as the sections have it: not 100 ± 0."""
    content = runs.evaluation()
    content["test_images"] = 6
    for row in content["table"]:
        row["probe"]["all"] = {"mean": 1.0, "std": None}
    seen = plain(page(runs(evaluation=content)))
    assert "an accuracy of 100.0 % is known to lie between 61.0 and 100.0 %" in seen
    assert "± 0.0 points" not in seen


@pytest.mark.parametrize(("right", "n"), [(0, 1), (1, 1), (6, 6), (37, 50), (0, 900)])
def test_the_interval_is_that_of_the_sections(right, n):
    found = sampling(right / n, n)
    expected = wilson_interval(right, n)
    assert found == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_neighbours_are_marked_by_sign_and_frame(runs):
    text = page(runs())
    assert text.count('<figure class="good">') == 3
    assert text.count('<figure class="bad">') == 3
    assert re.findall(r">([✓✗] \d)<", text) == [
        "✓ 3",
        "✓ 3",
        "✗ 8",
        "✓ 4",
        "✗ 1",
        "✗ 1",
    ]
    assert text.count('alt="query"') == 2


def test_text_of_files_is_escaped(runs):
    evil = "<script>alert(1)</script>"
    content = runs.evaluation(
        classes=[evil] * 10, verdict=f"healthy: {evil}", evaluated=evil
    )
    content["table"][0]["title"] = evil
    recipe = runs.recipe(method={"factory": evil, "arguments": {evil: evil}})
    text = page(
        runs(
            "<img src=x onerror=alert(1)>",
            evaluation=content,
            metrics=runs.rows(**{f'"><{evil}': 1.0}),
            run={
                "recipe": recipe,
                "command": f"{evil} \0 \u2028 https://example.org/x.png",
                "environment": {evil: [evil]},
                "problems": {"seen": 9, "bad": 2, "names": [evil]},
            },
        )
    )
    assert "<script" not in text
    assert "<img src=x" not in text
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 10
    assert "2 files could not be decoded" in text


def test_a_run_without_labels_says_why(runs):
    arrays = runs.figures(
        map_labels=np.full(20, -1, np.int32),
        query_labels=np.full(2, -1, np.int32),
        neighbour_labels=np.full((2, 3), -1, np.int32),
    )
    rows = [{k: v for k, v in row.items() if "probe" not in k} for row in runs.rows()]
    reason = "the data has no labels"
    content = runs.evaluation(table=[], labels_per_class=[], classes=[], reason=reason)
    seen = plain(page(runs(metrics=rows, figures=arrays, evaluation=content)))
    assert re.search(r"41\.2 RankMe effective dimensions of h, of 256", seen)
    assert "No probe or k-NN rows: the data has no labels." in seen
    assert "No online probe" in seen
    assert "healthy embeddings are spread" in seen
    assert "of its class" not in seen
    assert "unlabelled" not in seen
    assert "Geometry" in seen
    assert "linear-probe accuracy" not in seen


def test_what_texts_tell_is_a_line_each(runs):
    said = ["zero-shot accuracy: 0.978 with <6>", "recall@1/5: 0.900/1.000"]
    content = runs.evaluation(said=said)
    text = page(runs("one", evaluation=content))
    assert "<p>zero-shot accuracy: 0.978 with &lt;6&gt;.</p>" in text
    assert "<p>recall@1/5: 0.900/1.000.</p>" in text
    bare = runs.evaluation(said=said, table=[], labels_per_class=[], reason="none")
    text = page(runs("two", evaluation=content), runs("three", evaluation=bare))
    assert "<p>two: recall@1/5: 0.900/1.000.</p>" in text
    assert "<p>three: recall@1/5: 0.900/1.000.</p>" in text


@pytest.mark.parametrize("metrics", [None, []])
def test_a_run_that_has_only_started_says_what_to_do(runs, metrics):
    folder = runs("my run", metrics=metrics, evaluation=None, figures=None, views=None)
    seen = plain(page(folder))
    assert "Not evaluated yet: the accuracy table, the neighbours and the map" in seen
    assert f"rl-jax evaluate '{folder}'" in seen
    assert "No metrics yet" in seen
    assert f"rl-jax resume '{folder}'" in seen
    assert "No views.png" in seen


def test_a_run_that_still_trains_or_was_trained_on(runs):
    seen = plain(page(runs(metrics=runs.rows()[:4], evaluation=None)))
    assert "40 of 100 steps so far" in seen
    seen = plain(page(runs("later", evaluation=runs.evaluation(step=50))))
    assert "evaluated at step 50, trained to 100" in seen


def test_values_that_are_not_finite_leave_gaps_and_are_said(runs):
    rows = runs.rows(z_std=None)
    rows[3]["loss"], rows[6]["loss"] = None, float("nan")
    seen = plain(text := page(runs(metrics=rows)))
    assert "not finite near step 40 and at 1 later log points" in seen
    assert "Collapse meter" not in seen
    figure = re.search(r'aria-label="Loss over steps.*?</svg>', text, re.S).group()
    assert figure.count('class="line c0"') == 3


@pytest.mark.parametrize("reason", [None, "no labels"])
def test_a_failure_of_training_stands_beside_the_healthy_evaluation(runs, reason):
    said = runs.evaluation(reason=reason, **({"table": []} if reason else {}))
    top = page(runs(metrics=runs.rows(h_rank=1.0), evaluation=said)).split("<h2")[0]
    assert "healthy embeddings are spread" in plain(top)
    assert "⚠ failure dimensional collapse of h: effective rank 1.0" in plain(top)
    assert "(in training)" in plain(top)
    other = page(runs("b", metrics=runs.rows(h_rank=1.4), evaluation=said))
    assert "failure" not in other.split("<h2")[0]  # a warning is beside its curve


@pytest.mark.parametrize("filled_in", [False, True])
def test_images_stand_above_what_is_made_of_them(runs, filled_in):
    rng = np.random.default_rng(1)
    made = {
        name: rng.integers(0, 256, (3, 8, 8, 1)).astype(np.uint8)
        for name in ("originals", "remade", *(["seen"] if filled_in else []))
    }
    text = page(runs(figures=runs.figures(**made)))
    found = text.split("<h3>Reconstructions</h3>")[1].split("<h3>")[0]
    assert found.count("<img") == 3 * len(made)
    assert ("what is shown to the encoder" in found) == filled_in
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)" alt="([^"]+)"', found)
    names = {"image": "originals", "seen": "seen", "made again": "remade"}
    places = dict.fromkeys(names.values(), 0)
    for content, alt in pictures:
        name = names[alt]
        shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))
        np.testing.assert_array_equal(shown, made[name][places[name], ..., 0])
        places[name] += 1
    assert "Reconstructions" not in page(runs("none"))


@pytest.mark.parametrize(
    "broken",
    [
        {"originals": np.zeros((3, 8, 8, 1), np.uint8)},
        {"remade": np.zeros((3, 8, 8, 1), np.float32)},
        {"originals": np.zeros((8, 8), np.uint8), "remade": np.zeros((8, 8), np.uint8)},
    ],
)
def test_reconstructions_that_do_not_fit_are_refused(runs, broken):
    good = {name: np.zeros((2, 8, 8, 1), np.uint8) for name in ("originals", "remade")}
    folder = runs(figures=runs.figures(**good | broken))
    with pytest.raises(UsageError, match="shapes of its arrays do not fit together"):
        page(folder)


def test_two_runs_are_overlaid_and_what_differs_comes_first(runs):
    other = runs.evaluation(verdict="collapsed: all alike")
    other["table"][0]["probe"]["10"]["mean"] = 0.6
    byol = {"factory": "byol", "arguments": {"decay": 0.99}}
    text = page(
        runs("a"),
        runs(
            "b",
            run={"recipe": runs.recipe(method=byol, seed=7)},
            metrics=runs.rows(z_std=0.1),
            evaluation=other,
        ),
    )
    seen = plain(text)
    assert "2 runs side by side" in seen
    assert "Losses and gradient norms of different methods do not compare" in seen
    assert "Accuracy in % · a" in seen
    assert "Accuracy in % · b" in seen
    assert "✓ a, healthy: std 0.225" in seen
    assert "⚠ b, collapsed: std 0.025, expected 0.250 for D=16: all examples" in seen
    loss = re.search(r'aria-label="Loss over steps.*?</svg>', text, re.S).group()
    assert 'class="line c0"' in loss
    assert 'class="line c1"' in loss
    settings = seen[seen.index("differs") :]
    assert settings.index("seed 0 7") < settings.index("the same")
    assert settings.index("decay – 0.99") < settings.index("the same")
    assert settings.index("batch_size 64") > settings.index("the same")
    probe = re.search(r'aria-label="Linear probe acc.*?</svg>', text, re.S).group()
    assert probe.count('class="name base"') == 1


@pytest.mark.parametrize(
    ("shares", "shown", "best"),
    [
        # With 10 labels `a` has 85.3 %; with all it is better than `b` is.
        ((["10", "all"], ["1", "all"]), "all labels", ["96.0"]),
        ((["10"], ["all"], ["all"]), "10 labels per class", ["90.0", "90.0"]),
        ((["10"], ["all"]), "10 labels per class", []),
    ],
)
def test_the_best_run_is_that_with_the_same_labels(runs, shares, shown, best):
    folders = []
    for name, each in zip("abc", shares, strict=False):
        content = runs.evaluation(labels_per_class=each)
        if name != "a":
            content["table"][0]["probe"]["all"]["mean"] = 0.9
        folders.append(runs(name, evaluation=content))
    text = page(*folders)
    overview = text[: text.index("<nav")]
    assert re.findall(r'<td class="best">([\d.]+)', overview) == best
    assert shown in overview


def test_no_run_is_best_where_the_data_differ(runs):
    cats = {"factory": "folder", "arguments": {"path": "/data/cats"}}
    one = runs("a")
    same = page(one, runs("b", run={"recipe": runs.recipe(seed=3)}))
    other = page(one, runs("c", run={"recipe": runs.recipe(data=cats)}))
    found = [
        len(re.findall(r'<td class="best">', text[: text.index("<nav")]))
        for text in (same, other)
    ]
    assert found == [2, 0]


def test_runs_on_different_data_and_one_without_evaluation(runs):
    data = {"factory": "folder", "arguments": {"path": "/data/cats"}}
    first = runs("a", run={"recipe": runs.recipe(data=data)})
    seen = plain(page(first, runs("b", evaluation=None, figures=None)))
    assert "The runs use different data: their accuracies do not compare." in seen
    assert "SimCLR on cats" in seen
    assert "b is not evaluated yet" in seen


def test_many_classes_many_runs_and_large_colour_images(runs):
    rng = np.random.default_rng(0)
    arrays = runs.figures(
        map_labels=np.arange(20, dtype=np.int32) + 3 * (np.arange(20) % 2),
        query_images=rng.integers(0, 256, (2, 200, 120, 3)).astype(np.uint8),
        neighbour_images=np.zeros((2, 3, 200, 120, 3), np.uint8),
    )
    names = [f"a class of cats number {i}" for i in range(30)]
    content = runs.evaluation(classes=names)
    folders = [runs(str(i), figures=arrays, evaluation=content) for i in range(9)]
    text = page(*folders)
    assert len(text) < 3_000_000
    assert "<title>a class of cats number 4: " in text


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (np.full(20, -1), "no labels"),
        (np.full(20, 3), "1 class"),
        (np.arange(20) % 5 - 1, "4 classes"),
        (np.arange(45), "45 classes"),
    ],
)
def test_the_map_says_how_many_classes_it_has(runs, labels, said):
    labels = labels.astype(np.int32)
    places = np.random.default_rng(0).normal(size=(len(labels), 2))
    text = page(runs(figures=runs.figures(map=places, map_labels=labels)))
    assert f"map of {len(labels)} test images, {said}" in text
    many = f"Its {len(labels)} classes are too many to tell apart by colour."
    assert (many in text) == (len(labels) > 40)


def test_accuracies_out_of_range_or_absent_do_not_break_the_page(runs):
    content = runs.evaluation(labels_per_class=["1"])
    content["table"][0]["probe"]["1"]["mean"] = 1e6
    content["table"][1]["probe"]["1"]["mean"] = None
    assert "untrained h" in page(runs(evaluation=content))
    assert "No probe or k-NN rows" in page(
        runs("none", evaluation=runs.evaluation(labels_per_class=[]))
    )


def test_the_same_files_give_the_same_page_and_no_draft_stays(runs):
    folder = runs()
    first = page(folder)
    assert page(folder) == first
    assert sorted(p.name for p in folder.parent.iterdir()) == ["page.html", "run"]


def test_errors_leave_an_old_page_alone(runs, tmp_path):
    output = tmp_path / "page.html"
    output.write_text("old")
    with pytest.raises(UsageError, match="is not a run"):
        report.write([tmp_path / "nothing"], output)
    with pytest.raises(UsageError, match="got no run"):
        report.write([], output)
    assert output.read_text() == "old"
    folder = runs()
    with pytest.raises(UsageError, match="is a folder"):
        report.write([folder], tmp_path)
    with pytest.raises(UsageError, match="cannot be written"):
        report.write([folder], output / "x.html")


def test_a_full_disk_is_no_wrong_usage(runs, tmp_path, small_disk):
    output = tmp_path / "page.html"
    output.write_text("old")
    folder = runs()
    with small_disk(), pytest.raises(OSError, match="too large") as error:
        report.write([folder], output)
    assert error.value.filename == str(output)
    assert output.read_text() == "old"
    assert not list(tmp_path.glob(".page*"))


def test_what_is_wrong_stands_beside_its_curve(runs):
    rows = runs.rows(softmax_entropy=0.999, h_rank=1.0, positive_cosine=0.01)
    text = page(runs(metrics=rows))
    for title, words in (
        ("Softmax entropy", "temperature too high: entropy 0.999 of log K"),
        ("Effective rank of h", "dimensional collapse of h: effective rank 1.0 of 256"),
        ("Alignment", "positives are no closer than negatives: cosine 0.01 against"),
    ):
        part = text[text.index(f"<h3>{title}</h3>") :]
        assert f"⚠ {words}" in plain(part[: part.find("<h3>", 4)])


def test_k_nn_in_between_stands_beside_the_online_probe(runs):
    """Where rows have it, and only those are points of its curve."""
    rows = runs.rows()
    for row, value in zip(rows[4::5], (0.5, 0.75), strict=True):
        row["knn"] = value
    text = page(runs("with", metrics=rows))
    titles = re.findall(r"<h3>(.*?)</h3>", text)
    assert titles[titles.index("Online probe") + 1] == "k-NN while training"
    assert "k-NN while training over steps; last value: with 75.0 %" in text
    assert "<h3>k-NN while training</h3>" not in page(runs("without"))


def test_early_steps_and_runs_of_before_are_not_judged(runs):
    low = {"z_std": 0.01}
    seen = plain(page(runs("early", metrics=runs.rows(**low)[:4], run={"dims": None})))
    assert "collapsed" not in seen
    seen = plain(page(runs("old", metrics=runs.rows(**low), run={"dims": None})))
    assert "⚠ collapsed: std 0.01 of what is expected: all examples" in seen


def test_the_report_does_not_wait_for_jax():
    code = "import sys, rl_jax.report; print('jax' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "False"


def test_inline_pictures_are_the_images(runs):
    images = np.zeros((2, 3, 8, 8, 3), np.uint8)
    images[0, 0, :, :, 1] = 200
    arrays = runs.figures(
        query_images=np.full((2, 8, 8, 3), 7, np.uint8), neighbour_images=images
    )
    found = re.findall(
        r'src="data:image/png;base64,([^"]*)"', page(runs(figures=arrays))
    )
    pictures = [np.asarray(Image.open(io.BytesIO(base64.b64decode(f)))) for f in found]
    np.testing.assert_array_equal(pictures[0], arrays["query_images"][0])
    np.testing.assert_array_equal(pictures[1], images[0, 0])
    assert len(pictures) == 2 * 4 + 1
