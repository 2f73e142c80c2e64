"""The sections of an evaluation, on made arrays whose answers are known."""

import json
import math

import numpy as np
import pytest
from scipy.special import entr

from rl_jax import evaluate
from rl_jax.run import evaluation, measures, summary
from rl_jax.run.measures import Pair, Study, accuracy, geometry
from rl_jax.run.measures.guarantee import guarantee
from rl_jax.run.measures.section import number, shown

CLASSES, DIM = 3, 6
QUIET = {"say": lambda line: None}


def made(*, labels=True, views=True, factors=True, noise=0.3):
    """Clusters, one a class, beside a baseline that knows nothing of them."""
    rng = np.random.default_rng(0)
    y = {"fit": np.arange(120) % CLASSES, "scored": np.arange(90) % CLASSES}
    centres = 2.0 * np.eye(DIM)[:CLASSES]

    def of(side):
        return centres[y[side]] + noise * rng.normal(size=(len(y[side]), DIM))

    h = Pair(of("fit"), of("scored"))
    blind = Pair(*(rng.normal(size=(len(v), DIM)) for v in y.values()))
    unknown = Pair(*(np.full(len(v), -1) for v in y.values()))
    codes = Pair(*(x[:, :3] for x in h))
    pair = h.scored, h.scored + 0.1 * rng.normal(size=h.scored.shape)
    return Study(
        representations={"h": h, "raw": blind},
        labels=Pair(*y.values()) if labels else unknown,
        classes=("cat", "dog", "eel"),
        titles={"h": "method h", "raw": "raw pixels"},
        baselines=("raw",),
        layers={"layer1": blind, "layer2": h} if labels else {},
        views={"h": pair} if views else {},
        temperature=0.2,
        factors=codes if factors else None,
    )


@pytest.fixture(scope="module")
def whole():
    """The record and the predictions of everything that needs no network."""
    return evaluation.measure(made(), **QUIET)


def test_the_record_is_strict_json_and_every_section_has_words(whole):
    result, _ = whole
    json.dumps(measures.plain(result), allow_nan=False)
    expected = set(measures.SECTIONS) - {"drift", "corruptions", "attacks"}
    assert set(result["sections"]) == expected
    for section in result["sections"].values():
        assert section["lines"]
        assert not any("not measured" in line for line in section["lines"])
        assert all(line == line.strip() for line in section["lines"])


def test_text_shows_every_line(whole):
    result, _ = whole
    text = summary.sections(result)
    for section in result["sections"].values():
        for line in (section["title"], *section["lines"]):
            assert line in text


def test_intervals_hold_their_numbers(whole):
    result, _ = whole

    def walk(value):
        if isinstance(value, dict):
            if {"value", "low", "high"} == set(value) and value["low"] is not None:
                assert value["low"] <= value["value"] + 1e-9, value
                assert value["high"] >= value["value"] - 1e-9, value
                yield value
            for child in value.values():
                yield from walk(child)
        elif isinstance(value, list):
            for child in value:
                yield from walk(child)

    sections = {k: v for k, v in result["sections"].items() if k != "calibration"}
    assert len(list(walk(sections))) > 40


def test_clusters_are_read_and_noise_is_not(whole):
    result, predictions = whole
    h, raw = result["table"]
    assert h["probe"]["all"]["mean"] > 0.97
    assert h["knn"]["all"]["mean"] > 0.97
    assert raw["probe"]["all"]["mean"] < 0.55
    assert predictions["probe:h:all"].shape == (1, 90)
    assert predictions["knn:raw:10"].shape == (measures.DRAWS, 90)
    sections = result["sections"]
    (row,) = sections["differences"]["rows"]
    right = [row[kind]["all"]["mean"] for row in (h, raw) for kind in ("probe",)]
    assert row["difference"] == pytest.approx(right[0] - right[1])
    assert 0 < row["low"] < row["difference"] < row["high"]
    one, two, *_ = sections["layers"]["rows"]
    assert two["probe"]["value"] > one["probe"]["value"] + 0.3
    assert sections["probes"]["rows"][0]["ridge"]["value"] > 0.97
    assert sections["probes"]["rows"][0]["mlp"]["value"] > 0.97


def test_what_is_equal_is_similar_and_what_is_apart_is_not(whole):
    cka = whole[0]["sections"]["cka"]
    at = {name: i for i, name in enumerate(cka["names"])}
    matrix = np.array(cka["matrix"])
    assert matrix[at["layer2"], at["h"]] == pytest.approx(1, abs=1e-6)
    assert abs(matrix[at["h"], at["raw"]]) < 0.1
    np.testing.assert_allclose(np.diag(matrix), 1, atol=1e-6)
    assert abs(cka["kernels"]["raw"]["value"]) < 0.1


def test_kernels_see_what_is_bent():
    """A curve in two planes: linear CKA sees little of it, near neighbours are same."""
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, 400)
    h, bent = (
        np.stack([np.cos(k * angle), np.sin(k * angle)], 1).astype(np.float32)
        for k in (1, 2)
    )
    labels = rng.integers(0, 2, 400).astype(np.int32)
    study = made(views=False, factors=False)._replace(
        representations={
            "h": Pair(h, h),
            "raw": Pair(bent, bent),
            "z": Pair(h, np.where(np.arange(400)[:, None] < 9, h, np.float32(0.5))),
        },
        labels=Pair(labels, labels),
        layers={},
        titles={"h": "h", "raw": "raw", "z": "z"},
    )
    skip = set(measures.SECTIONS) - {"cka"}
    result, _ = evaluation.measure(study, skip=skip, **QUIET)
    found = result["sections"]["cka"]
    at = {name: i for i, name in enumerate(found["names"])}
    expected = evaluate.rbf_cka(h, bent, debiased=True)
    assert found["kernels"]["raw"]["value"] == pytest.approx(expected, abs=1e-6)
    assert expected > 0.1 > found["matrix"][at["h"]][at["raw"]]
    # Most rows of z are equal: no median distance, so no kernel.
    assert found["kernels"]["z"]["value"] is None
    assert "by Gaussian kernels not defined" in " ".join(found["lines"])


def test_how_large_features_are_does_not_matter_to_what_is_similar(whole):
    study = made(labels=False, views=False, factors=False)
    h, raw = study.representations["h"], study.representations["raw"]
    small = Pair(*(np.float32(1e-9) * x for x in h))
    # Around this constant neighbouring numbers of float32 are 0.06 apart.
    still = Pair(*(np.float32(1e6) + 0.06 * (x > 0).astype("f4") for x in raw))
    study = study._replace(
        representations={"h": small, "raw": raw, "z": still},
        titles={"h": "h", "raw": "raw", "z": "z"},
    )
    skip = set(measures.SECTIONS) - {"cka"}
    result, _ = evaluation.measure(study, skip=skip, **QUIET)
    found, before = result["sections"]["cka"], whole[0]["sections"]["cka"]
    assert found["names"] == ["h", "raw"]
    at = [before["names"].index(name) for name in found["names"]]
    expected = np.array(before["matrix"])[np.ix_(at, at)]
    np.testing.assert_allclose(found["matrix"], expected, atol=1e-5)
    section = measures.drift({0: raw, 5: still, 9: small}, study.labels)
    near, nothing, _ = section.values["cka"]
    matrix = section.values["matrix"]
    still_row = [math.isnan(v) for row in (matrix[1], matrix[:, 1]) for v in row]
    assert still_row == [True] * 6
    for one in (matrix[0, 2], matrix[2, 0]):
        assert one == pytest.approx(near["value"], abs=1e-6)
    assert near["value"] == pytest.approx(expected[0, 1], abs=1e-5)
    assert math.isnan(nothing["value"])


def test_known_factors_are_found_in_the_code_that_holds_them(whole):
    h, raw = whole[0]["sections"]["factors"]["rows"]
    assert h["scores"]["r2"]["value"] == pytest.approx(1, abs=1e-3)
    assert h["scores"]["mcc"]["value"] == pytest.approx(1, abs=1e-6)
    assert raw["scores"]["r2"]["value"] < 0.1


def test_sets_hold_what_they_promise_and_collapse_knows_its_angle(whole):
    sections = whole[0]["sections"]
    for row in sections["sets"]["rows"]:
        assert row["coverage"]["value"] > 0.85
        assert len(row["class_coverage"]) == CLASSES
    collapse = sections["collapse"]
    assert collapse["expected"] == -0.5
    np.testing.assert_allclose(np.diag(collapse["cosines"]), 1)
    assert collapse["angle"]["value"] < 0.2
    (first, *_) = sections["guarantee"]["rows"]
    assert first["supervised"] <= first["bound"]["high"]
    assert first["collision"] == pytest.approx(1 / CLASSES)


def test_without_labels_what_needs_none_is_measured():
    study = made(labels=False, factors=False)
    result, predictions = evaluation.measure(study, **QUIET)
    assert not predictions
    assert "the data has no labels" in result["reason"]
    assert set(result["sections"]) == {"geometry", "alignment", "similarity", "cka"}


def test_a_section_that_cannot_be_had_says_why_and_the_rest_goes_on():
    study = made(views=False)
    constant = Pair(*(np.ones_like(x) for x in study.representations["h"]))
    study = study._replace(
        representations={"h": constant, "raw": study.representations["raw"]},
        layers={},
        factors=None,
    )
    result, _ = evaluation.measure(study, **QUIET)
    (line,) = result["sections"]["collapse"]["lines"]
    assert "not measured: neural_collapse: the mean of class" in line
    assert result["table"][0]["probe"]["all"]["mean"] == pytest.approx(1 / 3)
    json.dumps(measures.plain(result), allow_nan=False)


def test_sections_can_be_left_out():
    skip = set(measures.SECTIONS) - {"similarity"}
    result, _ = evaluation.measure(made(), skip=skip, **QUIET)
    assert set(result["sections"]) == {"similarity"}
    assert result["sections"]["similarity"]["temperature"] == 0.2


def test_a_drift_ends_at_itself():
    study = made()
    states = {0: study.representations["raw"], 50: study.representations["h"]}
    section = measures.drift(states, study.labels)
    assert section.values["steps"] == [0, 50]
    assert section.values["cka"][1]["value"] == 1.0
    assert abs(section.values["cka"][0]["value"]) < 0.1
    assert section.values["probe"][1]["value"] > 0.97
    np.testing.assert_allclose(np.diag(section.values["matrix"]), 1, atol=1e-6)
    assert abs(section.values["matrix"][0, 1]) < 0.1


def test_numbers_are_worded():
    assert shown(number(0.5)) == "0.500"
    assert shown(number(math.inf)) == "not defined"
    assert shown(number(0.5, 0.25, 0.75), 2) == "0.50 [0.25, 0.75]"
    record = measures.record(
        measures.Section("T", ["l"], {"a": np.float32(math.nan), "b": np.arange(2)})
    )
    assert record == {"title": "T", "lines": ["l"], "a": None, "b": [0, 1]}


def test_a_collapsed_representation_leaves_the_others_their_geometry():
    study = made(factors=False)
    h = study.representations["h"]
    constant = Pair(*(np.ones_like(x) for x in h))
    study = study._replace(
        representations={"h": h, "z": constant},
        titles={"h": "h", "z": "z"},
        baselines=(),
    )
    skip = set(measures.SECTIONS) - {"geometry"}
    result, _ = evaluation.measure(study, skip=skip, **QUIET)
    section = result["sections"]["geometry"]
    healthy, collapsed = section["rows"]
    assert healthy["measures"]["hubness"]["value"] is not None
    assert collapsed["measures"]["std"]["value"] == pytest.approx(0, abs=1e-3)
    assert "hubness" not in collapsed["measures"]
    assert any(line.startswith("z: not measured: hubness") for line in section["lines"])


@pytest.mark.parametrize("decay", [0.0, 0.5])
@pytest.mark.parametrize("count", [50, 200])
def test_intervals_of_ranks_hold_those_of_all_examples(count, decay):
    scale = np.arange(1.0, 11.0) ** -decay
    truth = [np.exp(entr(v / v.sum()).sum()) for v in (scale, scale**2)]
    hits = np.zeros(2)
    for seed in range(20):
        x = scale * np.random.default_rng(seed).normal(size=(count, 10))
        names = ("rank_me", "effective_rank", "std")
        found = list(geometry._measured(geometry._rank, x, names=names).values())
        hits += [f["low"] <= t <= f["high"] for f, t in zip(found, truth, strict=False)]
        assert all(f["high"] <= 10 for f in found)
    assert min(hits) >= 17


def test_intervals_of_the_decay_and_of_lidar_hold_those_of_all_examples():
    scale = np.arange(1.0, 21.0) ** -0.5
    between = 4 * scale[:10]
    truth = 1.0, np.exp(entr(v := (between + 0.1) / np.sum(between + 0.1)).sum())
    hits = np.zeros(2)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        x = scale * rng.normal(size=(200, 20))
        image = np.sqrt(between) * rng.normal(size=(200, 10))
        views = image[:, None] + rng.normal(size=(200, 10, 10))
        found = (
            geometry._measured(geometry._decay(20), x, names=("alpha_req",))[
                "alpha_req"
            ],
            geometry._lidar(views),
        )
        hits += [f["low"] <= t <= f["high"] for f, t in zip(found, truth, strict=True)]
        assert found[1]["high"] <= 10
    assert len(v) == 10
    assert min(hits) >= 17


def wide(images, dim=24, q=10):
    """A power law, two views and q of it with noise; beside it few dimensions of it."""
    rng = np.random.default_rng(1)
    h = rng.normal(size=(images, dim)) * np.arange(1, dim + 1) ** -0.5
    views = h[:, None] + 0.3 * rng.normal(size=(images, q, dim))
    z, two = h[:, :14], (views[:, 0], views[:, 1])
    return Study(
        representations={"h": Pair(h, h), "z": Pair(z, z)},
        labels=Pair(*(np.full(images, -1),) * 2),
        titles={"h": "method h", "z": "method z"},
        views={"h": two, "z": tuple(v[:, :6] for v in two)},
        clouds=lambda: {"h": views, "z": views[..., :6]},
    )


def test_the_decay_and_lidar_are_measured_where_there_are_enough_rows(monkeypatch):
    # The others take long to compile.
    monkeypatch.setattr(geometry, "NEIGHBOURS", 10**6)
    monkeypatch.setattr(geometry, "_rank", lambda x: np.ones(3))
    study = wide(400)
    found = geometry.geometry(study)
    h, z = (row["measures"] for row in found.values["rows"])
    assert list(h)[:3] == ["rank_me", "effective_rank", "std"]
    expected = evaluate.alpha_req(study.representations["h"].scored, ranks=(6, 24))
    assert h["alpha_req"]["value"] == pytest.approx(expected)
    assert h["alpha_req"]["low"] < 1 < h["alpha_req"]["high"]
    assert "alpha_req" not in z
    places = [
        i for i, line in enumerate(found.lines)
        if line.startswith(("rank_me (", "effective_rank (", "alpha_req (", "std ("))
    ]  # fmt: skip
    assert places == [0, 1, 2, 3]
    assert "natural images" in found.lines[2]
    assert not any("not measured" in line for line in found.lines)
    # Twice as many rows as the last rank.
    for images, last in ((40, 20), (18, None)):
        few = wide(images)
        h, _ = (row["measures"] for row in geometry.geometry(few).values["rows"])
        assert ("alpha_req" in h) == (last is not None)
        if last:
            x = few.representations["h"].scored
            expected = evaluate.alpha_req(x, ranks=(6, last))
            assert h["alpha_req"]["value"] == pytest.approx(expected)

    found = geometry.alignment(study)
    assert study.clouds is not None
    clouds = study.clouds()
    for point in found.values["points"]:
        name = point["name"]
        value = evaluate.lidar(clouds[name], relative=True)
        assert point["lidar"]["value"] == pytest.approx(value)
        assert point["lidar"]["low"] <= value < point["lidar"]["high"]
        (line,) = (v for v in found.lines if v.startswith(f"{name}: LiDAR"))
        assert f"{value:.2f} [" in line
        assert f"of {clouds[name].shape[2]} from 10 views of 400 images" in line
    assert {"alignment", "uniformity", "lidar"} <= point.keys()


def test_few_images_have_no_interval_of_lidar_and_fewer_no_lidar():
    middle, few = (geometry.alignment(wide(n, q=2)) for n in (36, 35))
    h, z = (point["lidar"] for point in middle.values["points"])
    assert h["value"] > 1
    assert (h["low"], h["high"]) == (None, None)
    assert z["low"] is not None
    assert ["lidar" in point for point in few.values["points"]] == [False, True]
    (line,) = (v for v in few.lines if "not measured" in v)
    assert line.startswith("h: not measured: lidar: 2 views of 35 images are too few")
    assert line.endswith("24 dimensions; 36 images would do")
    said = ["; of more images it would be larger)" in v for v in middle.lines]
    assert said == [False, False, True, False]
    # With ten views as many images are enough.
    assert "lidar" in geometry.alignment(wide(30)).values["points"][0]


def test_lidar_is_measured_where_no_row_has_a_direction():
    study = wide(60, dim=4)
    study = study._replace(
        views={"h": (np.zeros((60, 4)),) * 2},
        clouds=lambda: {"h": np.zeros((60, 3, 4))},
    )
    found = geometry.alignment(study)
    assert found.values["points"] == [{"name": "h", "lidar": number(1.0, 1.0, 1.0)}]
    assert "60 of 60 examples left out" in found.lines[1]
    # Two views alone, as a file of features has them, are too few to tell.
    assert (
        "lidar"
        not in geometry.alignment(wide(60)._replace(clouds=None)).values["points"][0]
    )


@pytest.mark.parametrize("scale", [1e-24, 1e-40])
def test_unit_length_does_not_depend_on_the_scale(scale):
    study = made()
    x = study.representations["h"].scored
    x[0] = 0
    small = {"h": Pair(study.representations["h"].fit, scale * x)}
    _, expected = guarantee(study).values["rows"]
    _, found = guarantee(study._replace(representations=small)).values["rows"]
    assert found["bound"] == pytest.approx(expected["bound"], rel=1e-3)


def test_rows_are_spread_over_data_in_order_of_classes():
    study = made(views=False, factors=False)
    order = [np.argsort(v, kind="stable") for v in study.labels]
    study = study._replace(
        representations={
            k: Pair(*(x[o] for x, o in zip(pair, order, strict=True)))
            for k, pair in study.representations.items()
        },
        labels=Pair(*(v[o] for v, o in zip(study.labels, order, strict=True))),
        layers={},
    )
    skip = set(measures.SECTIONS) - {"geometry", "collapse"}
    result, _ = evaluation.measure(study, skip=skip, **QUIET)
    assert "not measured" not in str(result["sections"])
    assert "fisher" in result["sections"]["geometry"]["rows"][0]["measures"]


def test_one_scored_label_has_no_interval():
    study = made(views=False, factors=False)
    one = study.labels.scored.copy()
    one[1:] = -1
    study = study._replace(labels=Pair(study.labels.fit, one), layers={})
    result, _ = evaluation.measure(study, skip=measures.SECTIONS, **QUIET)
    score = result["table"][0]["probe"]["all"]
    assert score["mean"] in (0.0, 1.0)
    assert (score["low"], score["high"]) == (None, None)


@pytest.mark.parametrize("given", [(), ("cat", "dog", "eel")])
def test_numbers_of_classes_are_names_while_they_are_few(given):
    study = made(views=False, factors=False)._replace(layers={}, classes=given)
    result, _ = evaluation.measure(study, skip=measures.SECTIONS, **QUIET)
    assert result["classes"] == (list(given) or ["0", "1", "2"])
    far = Pair(*(np.where(v == 2, 700_000, v) for v in study.labels))
    study = study._replace(labels=far)
    skip = set(measures.SECTIONS) - {"collapse", "sets"}
    result, _ = evaluation.measure(study, skip=skip, **QUIET)
    assert result["classes"] == list(given)
    assert len(json.dumps(measures.plain(result))) < 20_000
    names = [*(given[:2] or ("0", "1")), "700000"]
    for section in ("collapse", "sets"):
        assert result["sections"][section]["classes"] == names


def test_of_six_examples_all_right_the_interval_has_a_width():
    found = accuracy.sampled(np.ones((1, 6), bool))
    assert found["value"] == found["high"] == 1.0
    assert found["low"] == pytest.approx(0.61, abs=0.005)


def test_rows_of_zeros_have_no_direction():
    a, b = np.ones((5, 2)), np.ones((5, 2))
    a[1], b[4] = 0.0, 0.0
    kept_a, kept_b, lines = geometry._directions(a, b)
    assert len(kept_a) == len(kept_b) == 3
    assert kept_a.all()
    assert kept_b.all()
    assert lines == ["2 of 5 examples left out: rows of zeros"]
    assert geometry._directions(kept_a, kept_b)[2] == []


def test_classes_of_one_example_have_no_spread():
    x = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    margin, separation, _ = geometry._classes(x, np.arange(6))
    assert np.isnan([margin, separation]).all()
    assert shown({"value": margin, "low": None, "high": None}) == "not defined"
    assert shown({"value": 0.5, "low": np.nan, "high": np.nan}) == "0.500"
