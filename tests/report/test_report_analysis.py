"""The analysis shows every section, for one run and for several side by side."""

import re
import sys
import types

import evaluation_sections
import numpy as np
import pytest
from pages import page, plain

from rl_jax import report
from rl_jax.errors import UsageError
from rl_jax.report import analysis
from rl_jax.report.sections import SHAPES

TITLES = {
    "probes": "Other probes, all labels",
    "layers": "Layer by layer",
    "differences": "What training gained",
    "factors": "Known factors",
    "geometry": "Geometry",
    "alignment": "Alignment and uniformity",
    "similarity": "Similarity of pairs",
    "cka": "Similarity of layers (CKA)",
    "drift": "Drift over checkpoints",
    "collapse": "Neural collapse",
    "guarantee": "Guarantee",
    "calibration": "Calibration",
    "sets": "Conformal sets",
    "corruptions": "Corruptions",
    "attacks": "Attacks",
}


def card(text: str, title: str) -> str:
    """The card of a title."""
    start = text.index(f"<h4>{title}</h4>")
    return text[start : text.index("</section>", start)]


def labels(text: str) -> str:
    """What the figures say to those who cannot see them."""
    return "\n".join(re.findall(r'aria-label="([^"]*)"', text))


def test_every_section_has_a_card_with_its_lines(whole_page):
    assert set(TITLES) == set(SHAPES)
    assert {name for group in analysis.GROUPS.values() for name in group} == set(SHAPES)
    for name, title in TITLES.items():
        found = card(whole_page, title)
        assert f"the first line of {name} [0.91, 0.95]." in found
        assert "<svg" in found or "<table" in found
    seen = plain(whole_page)
    for group in analysis.GROUPS:
        assert group in seen
    assert "Of h of the online network at step 100 on clean data." in seen
    assert "Not in this evaluation" not in seen
    assert "<summary>In words</summary>" in whole_page
    assert len(whole_page) < 1_500_000


@pytest.mark.parametrize(
    ("title", "numbers"),
    [
        (TITLES["probes"], "h [16] 96.0 95.1 93.9 to 96.3 97.2 96.1 to 98.3"),
        (TITLES["probes"], "raw pixels [16] 92.0 91.5 90.3 to 92.7 –"),
        (TITLES["differences"], "h − raw pixels 4.2 % (2.4 to 6.0)"),
        (TITLES["differences"], "h − z 0.8 % (−0.4 to 2.0)"),
        (TITLES["differences"], "Accuracy of linear probe, 10 labels per class:"),
        (TITLES["factors"], "MCC correlation of paired dimensions 0.610"),
        (TITLES["geometry"], "41.2 11.8 6.40 22.7"),
        (TITLES["geometry"], "0.710 0.690 to 0.730"),
        (TITLES["geometry"], "near 1: often best 1.37 1.33 to 1.41"),
        (TITLES["alignment"], "lowest: −3.62"),
        (
            TITLES["alignment"],
            "LiDAR directions that tell images apart under augmentation "
            "h 33.4 31.9 to 34.9 z 12.6",
        ),
        (TITLES["similarity"], "mean 0.82"),
        (TITLES["similarity"], "temperature 0.300 · softmax entropy 3.10"),
        (TITLES["cka"], "on 500 images"),
        (
            TITLES["collapse"],
            "NC1 within classes spread within over that between 0.720",
        ),
        ("Angles of the class means", "−1/(C−1) = −0.11"),
        (TITLES["guarantee"], "h, unit length 0.790 0.100 0.610 0.770 0.760 to 0.780"),
        (TITLES["calibration"], "ECE, % 3.1 2.3 to 3.9"),
        (TITLES["calibration"], "ECE, scaled, % 1.2 0.6 to 1.8"),
        (TITLES["sets"], "LAC per class 90.7 90.1 to 91.3 1.02"),
        (TITLES["sets"], "in 90 % of the cases; means over 100 splits"),
        ("Coverage of each class", "1 − α = 90 %"),
        (TITLES["corruptions"], "h 71.0 % (68.0 to 74.0); untrained h 108.0 %"),
        (TITLES["attacks"], "40 steps of PGD, 200 images. more steps never helped"),
    ],
)
def test_numbers_are_in_their_cards(whole_page, title, numbers):
    assert numbers in plain(card(whole_page, title))


@pytest.mark.parametrize(
    ("title", "said"),
    [
        (TITLES["layers"], "stem linear probe 90.0 % (88.5 to 91.5), k-NN 93.0 %"),
        (TITLES["factors"], "R² of a linear regression on h: shape 0.910"),
        (TITLES["alignment"], "h: alignment 0.210 (0.190 to 0.230), uniformity −2.10"),
        (TITLES["similarity"], "positives most often near 0.8"),
        (TITLES["cka"], "CKA of 8 representations: stem, stage1.block1"),
        (TITLES["drift"], "CKA with the last checkpoint over steps: "),
        (TITLES["drift"], "CKA of the checkpoints of steps 0, 25, 50, 75, 100"),
        ("Angles of the class means", "cosines of the means of 10 classes, expected"),
        (TITLES["guarantee"], "mean classifier 0.610, its bound 0.770"),
        (TITLES["calibration"], "95.0 % sure 93.5 % right"),
        ("Coverage of each class", "coverage by class: 0 LAC "),
        (
            TITLES["corruptions"],
            "clean h 96.0 %, untrained h 90.0 %, raw pixels 92.0 %",
        ),
        (TITLES["corruptions"], "gaussian noise: h "),
        (TITLES["attacks"], "accuracy under ℓ₂ attacks by radius: h 95.0 %, 88.0 %"),
    ],
)
def test_figures_are_told_in_words(whole_page, title, said):
    assert said in labels(card(whole_page, title))


def test_three_runs_are_side_by_side(runs):
    folders = [
        runs(name, evaluation=runs.whole(shift=shift))
        for name, shift in (("first", 0.0), ("second", -0.04), ("third", 0.02))
    ]
    text = page(*folders)
    assert len(re.findall(r"<h4>", text)) == len(TITLES) + 2
    for title in TITLES.values():
        found = card(text, title)
        assert "<summary>In words</summary>" in found
        for name in ("first", "second", "third"):
            assert name in found, title
    drift = card(text, TITLES["drift"])
    for colour in ("c0", "c1", "c2"):
        assert f'class="line {colour}"' in drift
    layers = card(text, TITLES["layers"])
    assert "stem first 90.0 % (88.5 to 91.5), second 86.0 %" in labels(layers)
    assert card(text, TITLES["cka"]).count("<svg class=") >= 3
    seen = plain(text)
    assert seen.count("Of h of the online network") == 1
    corruptions = plain(card(text, TITLES["corruptions"]))
    assert corruptions.startswith(" Corruptions first second third raw pixels Mean")
    assert "untrained" not in corruptions


def test_lidar_stands_under_the_plane_where_it_was_measured(runs):
    new = evaluation_sections.sections()["alignment"]
    folders = [runs(name, evaluation=runs.whole(alignment=new)) for name in "ab"]
    seen = plain(card(page(*folders), TITLES["alignment"]))
    assert "a · h 33.4 31.9 to 34.9 a · z 12.6" in seen
    # Baselines would only repeat themselves; runs of before have none.
    assert "41.3" not in seen
    for point in new["points"]:
        del point["lidar"]
    seen = plain(
        card(
            page(runs("old", evaluation=runs.whole(alignment=new))), TITLES["alignment"]
        )
    )
    assert "LiDAR" not in seen
    assert "lowest: −3.62" in seen
    # Of constant features there is no plane.
    points = [{"name": "h", "lidar": evaluation_sections.interval(1.0)}]
    alone = runs("c", evaluation=runs.whole(alignment=new | {"points": points}))
    found = card(page(alone), TITLES["alignment"])
    assert "h 1.00" in plain(found)
    assert "<svg" not in found


def test_runs_whose_layers_or_edges_differ_get_a_figure_each(runs):
    other = evaluation_sections.sections()
    layers, similarity = other["layers"], other["similarity"]
    layers["rows"][0]["name"] = "patches"
    similarity["edges"][0] = -1.5
    content = runs.whole(layers=layers, similarity=similarity)
    text = page(runs("a", evaluation=runs.whole()), runs("b", evaluation=content))
    assert "patches linear probe 90.0 %" in labels(card(text, TITLES["layers"]))
    assert "stem linear probe 90.0 %" in labels(card(text, TITLES["layers"]))
    assert card(text, TITLES["similarity"]).count("two") == 0
    assert card(text, TITLES["similarity"]).count('class="area c0"') == 2


def test_a_section_of_one_run_alone_says_whose_it_is(runs):
    content = runs.whole(layers=None) | {"skipped": ["layers"]}
    only = runs("a", evaluation=content)
    text = page(only, runs("b", evaluation=runs.whole()))
    found = plain(card(text, TITLES["layers"]))
    assert "b the" not in found
    assert "b: the first line of layers" in found
    assert f"a: Not in this evaluation: layers; rl-jax evaluate {only}" in plain(text)


def compare(monkeypatch, answer):
    """Puts an answer in the place of the comparison of runs."""

    def found(folders):
        if isinstance(answer, Exception):
            raise answer
        return answer

    module = types.SimpleNamespace(compare=found)
    monkeypatch.setitem(sys.modules, "rl_jax.run.compare", module)


def predicted(runs, *names):
    folders = [runs(name, evaluation=runs.whole()) for name in names]
    for folder in folders:
        np.savez(folder / "predictions.npz", index=np.arange(2))
    return folders


def test_differences_between_runs_have_intervals(runs, monkeypatch):
    compare(monkeypatch, evaluation_sections.comparison(3))
    text = page(*predicted(runs, "x", "y", "z"))
    found = card(text, "Differences")
    seen = plain(found)
    assert "Accuracy of linear probe, all labels:" in seen
    assert "Accuracy of k-NN, all labels:" in seen
    assert "y − x −2.1 % (−3.2 to −1.0)" in seen
    assert "no difference" in seen
    # Worse, maybe no different, better: by colour, and in words by the interval.
    dots = re.findall(r'class="dot (\w+)"', found)
    assert dots == ["c1", "base", "c2"] * 2
    assert "the runs scored the same 500 images." in seen
    alike = card(text, "How alike the runs are")
    assert "CKA of h of x, y, z" in labels(alike)
    assert alike.count("x, y: 0.83") == 1
    assert plain(text).index("Between the runs") < plain(text).index("What the repres")


def test_runs_that_cannot_be_compared_say_why(runs, monkeypatch):
    compare(monkeypatch, UsageError("compare: the runs scored <other> images"))
    text = page(*predicted(runs, "x", "y"))
    assert "no differences between the runs: compare: the runs scored" in text
    assert "<other>" not in text
    compare(monkeypatch, evaluation_sections.comparison(3))
    assert "a difference of runs that are not there" in page(*predicted(runs, "p", "q"))


def test_what_a_quick_evaluation_left_out_names_the_command(runs):
    """What the data do not allow, as factors here, is not missed."""
    content = runs.whole(corruptions=None, attacks=None, factors=None)
    content["skipped"] = ["corruptions", "attacks"]
    folder = runs("quick", evaluation=content)
    seen = plain(page(folder))
    wanted = f"Not in this evaluation: corruptions, attacks; rl-jax evaluate {folder} "
    assert wanted + "adds what the data allow." in seen
    seen = plain(page(old := runs("old")))
    assert f"Only the table was measured; rl-jax evaluate {old} measures" in seen
    assert "Analysis" not in plain(page(runs("new", evaluation=None)))


def test_a_section_this_version_does_not_know_shows_its_lines(runs):
    new = {"title": "A new <measure>", "lines": ["it is 3.5"], "other": [None]}
    text = page(runs(evaluation=runs.whole(novel=new)))
    assert "it is 3.5." in card(text, "A new &lt;measure&gt;")


def test_hostile_text_in_sections_is_escaped(runs):
    evil = "<script>alert(1)</script>"

    def poisoned(value, key=""):
        if isinstance(value, dict):
            return {k: poisoned(v, k) for k, v in value.items()}
        if isinstance(value, list):
            return [poisoned(item, key) for item in value]
        return evil if isinstance(value, str) else value

    found = poisoned(evaluation_sections.sections())
    found["corruptions"]["families"] = {evil: [evil]}
    found["corruptions"]["accuracy"] = {"h": {evil: [0.5] * 5}}
    found["factors"]["rows"][0]["scores"] = {evil: {"value": 0.5}}
    found["geometry"]["rows"][0]["measures"] = {evil: 3.0}
    found["attacks"]["rows"][0]["norm"] = evil
    folders = [runs(name, evaluation=runs.whole(**found)) for name in ("a", "b")]
    for text in (page(folders[0]), page(*folders)):
        assert "<script" not in text
        assert text.count("&lt;script&gt;") > 50


def emptied(value):
    """Every number not known, lists as long as they were."""
    if isinstance(value, dict):
        return {k: v if k == "dim" else emptied(v) for k, v in value.items()}
    if isinstance(value, list):
        return [emptied(v) for v in value]
    return None if isinstance(value, (int, float)) else value


def test_sections_without_any_number_do_not_break_the_page(runs):
    sections = evaluation_sections.sections()
    found = emptied(sections)
    for name, key in (
        ("similarity", "edges"),
        ("drift", "steps"),
        ("corruptions", "severities"),
        ("sets", "alpha"),
    ):
        found[name][key] = sections[name][key]
    edges = sections["calibration"]["reliability"]["edges"]
    found["calibration"]["reliability"]["edges"] = edges
    for row, known in zip(
        found["attacks"]["rows"], sections["attacks"]["rows"], strict=True
    ):
        row["radii"] = known["radii"]
    folders = [runs(name, evaluation=runs.whole(**found)) for name in ("a", "b")]
    for text in (page(folders[0]), page(*folders)):
        for name in TITLES:
            assert f"the first line of {name} " in text
        assert "nan" not in labels(text)


def test_sections_with_empty_lists_do_not_break_the_page(runs):
    def bare(value):
        if isinstance(value, dict):
            return {k: bare(v) for k, v in value.items()}
        return [] if isinstance(value, list) else value

    sections = evaluation_sections.sections()
    found = {}
    for name, each in sections.items():
        found[name] = bare(each) | {"lines": [f"only words of {name}"]}
    found["similarity"] |= {"edges": [0, 1], "positive": [0], "negative": [0]}
    reliability = {"edges": [0, 1], "confidence": [0.5], "accuracy": [0.5]}
    found["calibration"]["reliability"] = {**reliability, "count": [0]}
    found["corruptions"] |= {"families": {}, "severities": [1], "accuracy": {}}
    folders = [runs(name, evaluation=runs.whole(**found)) for name in ("a", "b")]
    for text in (page(folders[0]), page(*folders)):
        for name in TITLES:
            assert f"only words of {name}." in text


def test_one_class_and_two_classes(runs):
    sections = evaluation_sections.sections(classes=2)
    page(runs("two", evaluation=runs.whole(classes=2)))
    collapse = sections["collapse"] | {"classes": ["only"], "cosines": [[None]]}
    collapse["expected"] = None
    sets = sections["sets"] | {"classes": ["only"]}
    sets["rows"] = [row | {"class_coverage": [0.9]} for row in sets["rows"]]
    text = page(runs(evaluation=runs.whole(collapse=collapse, sets=sets)))
    assert "Angles of the class means" not in text
    assert "only LAC 90.0 %" in labels(card(text, "Coverage of each class"))


def test_a_hundred_classes_make_no_monstrous_figure(runs):
    text = page(runs(evaluation=runs.whole(classes=100)))
    assert len(text) < 400_000
    angles = card(text, "Angles of the class means")
    assert angles.count("<rect") < 20  # of the scale, none of the map
    assert angles.count("data:image/png;base64,") == 1
    coverage = card(text, "Coverage of each class")
    assert "The 12 classes that LAC covers least and most, of 100." in coverage
    assert coverage.count('class="dot') == 4 * 24


def test_of_more_classes_the_angles_are_not_recorded_and_the_rest_is_shown(runs):
    many = evaluation_sections.sections(classes=1000)
    collapse = many["collapse"] | {"cosines": []}
    content = runs.whole(classes=1000, collapse=collapse)
    folder = runs("many", evaluation=content)
    text = page(folder)
    assert len(text) < 400_000
    assert "NC1 within classes" in plain(card(text, "Neural collapse"))
    assert "<h4>Angles of the class means" not in text
    text = page(folder, runs("few", evaluation=runs.whole()))
    assert "many" not in plain(card(text, "Angles of the class means"))


def test_features_of_any_encoder_have_a_page(runs):
    seen = plain(text := page(runs.features()))
    assert "Features of F.npz" in seen
    assert "h 1,797 × 64" in seen
    assert "file /data/F.npz" in seen
    for absent in ("Training", "No metrics", "steps", "Nearest neighbours", "views"):
        assert absent not in seen.replace("40 steps of PGD", ""), absent
    assert "Not in this evaluation" not in seen
    assert "Map of the representation" in seen
    assert "<h4>Calibration</h4>" in text


def test_a_probe_without_temperature_has_no_scaled_numbers(runs):
    scaled = "temperature", "ECE, scaled", "Scaled: after division"
    whole = runs.whole()
    found = whole["sections"]["calibration"] | {"temperature": None, "after": None}
    folders = [runs("fitted", evaluation=whole)]
    folders.append(runs("none", evaluation=runs.whole(calibration=found)))
    alone, both = (card(page(*f), "Calibration") for f in (folders[1:], folders))
    assert not any(word in alone for word in scaled)
    assert all(word in both for word in scaled)


def test_features_beside_a_run(runs):
    text = page(runs("run", evaluation=runs.whole()), runs.features())
    seen = plain(text)
    assert "Features of F.npz" in seen
    assert "<h2" in text
    assert "different data" not in seen
    assert "Training" in seen
    loss = re.search(r'aria-label="Loss over steps.*?</svg>', text, re.S).group()
    assert "features" not in loss
    assert "Features · features" in seen


def test_the_page_does_not_wait_for_a_comparison_of_one(runs, monkeypatch):
    compare(monkeypatch, AssertionError("not called"))
    (folder,) = predicted(runs, "x")
    report.write([folder], folder / "page.html")
    report.write([folder, runs("no predictions")], folder / "page.html")


def test_what_could_not_be_measured_says_why(runs):
    """Its lines are open to the eye: there is nothing else to see."""
    line = "not measured: hubness: row 3 of features is zero"
    sections = {"geometry": {"title": "Geometry", "lines": [line]}}
    text = page(runs(evaluation=runs.evaluation(format=2, sections=sections)))
    found = card(text, "Geometry")
    assert f"{line}." in found
    assert "<details" not in found
