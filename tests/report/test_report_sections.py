"""Sections of an evaluation are read in one shape or refused in one line."""

import copy
import json

import evaluation_sections
import pytest

from rl_jax.errors import UsageError
from rl_jax.report.read import read
from rl_jax.report.sections import SHAPES, Interval, comparison, finite, sections


def test_all_sections_are_read_in_their_order(runs):
    found = read(runs(evaluation=runs.whole()), name="a").evaluation
    assert list(found.sections) == list(evaluation_sections.sections())
    assert found.checkpoint == "h of the online network at step 100 on clean data"
    probes = found.sections["probes"].values["rows"]
    assert probes[0]["ridge"] == pytest.approx((0.951, 0.939, 0.963))
    assert probes[0]["dim"] == "16"
    assert probes[3]["mlp"] == Interval(None)
    assert found.sections["sets"].values["alpha"] == 0.1
    assert found.sections["cka"].lines[1] == "another of cka"


def test_the_first_format_has_no_sections(runs):
    found = read(runs(), name="a").evaluation
    assert (found.sections, found.checkpoint) == (None, "")
    empty = runs("b", evaluation=runs.evaluation(format=2, sections={}))
    assert read(empty, name="b").evaluation.sections == {}


def test_numbers_that_cannot_be_drawn_are_none():
    for value in (float("nan"), float("inf"), 1e200, 10**400, "1", True, None):
        assert finite(value) is None
    assert finite(3) == 3
    content = evaluation_sections.sections()["geometry"]
    content["rows"][0]["measures"] = {"rank_me": {"value": float("nan"), "low": 1.0}}
    found = sections({"geometry": content})["geometry"].values["rows"][0]
    assert found["measures"]["rank_me"] == (None, 1.0, None)


def test_what_may_be_absent_may_be():
    content = evaluation_sections.sections()
    for name, key in (
        ("factors", "r2"),
        ("calibration", "after"),
        ("calibration", "mce"),
        ("corruptions", "mce"),
        ("attacks", "masking"),
        ("cka", "lines"),
        ("cka", "title"),
    ):
        del content[name][key]
    found = sections(content)
    assert found["calibration"].values["after"] is None
    assert found["calibration"].values["mce"] == Interval(None)
    assert (found["cka"].title, found["cka"].lines) == ("cka", [])


def test_unknown_sections_keep_their_words_only():
    found = sections({"new": {"title": "New", "lines": ["a"], "rows": [[[]]]}})
    assert found == {"new": ("New", ["a"], {})}


@pytest.mark.parametrize("name", SHAPES)
def test_each_section_refuses_what_is_broken(runs, name):
    good = evaluation_sections.sections()
    key = next(iter(SHAPES[name]))
    for number, broken in enumerate(([], "text", {key: 3}, {"lines": 3}, {})):
        content = good[name] | broken if isinstance(broken, dict) else broken
        if broken == {}:
            content = {"title": "t", "lines": []}
        folder = runs(f"{number}", evaluation=runs.whole(**{name: content}))
        if number == 2 and not isinstance(SHAPES[name][key], (list, dict)):
            continue
        with pytest.raises(UsageError, match="write it again with: rl-jax") as error:
            read(folder, name="a")
        assert "\n" not in str(error.value)


def test_a_drift_of_before_there_was_a_map_of_checkpoints_is_read():
    content = evaluation_sections.sections()["drift"]
    del content["matrix"]
    assert sections({"drift": content})["drift"].values["matrix"] is None


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [
        ("cka", ["names"], ["h"]),
        ("cka", ["matrix", 0], [1.0]),
        ("drift", ["cka"], []),
        ("drift", ["matrix", 1], [1.0]),
        ("drift", ["steps"], [0, 25, 25, 75, 100]),
        ("similarity", ["edges"], [0.0, 1.0]),
        ("similarity", ["edges", 3], None),
        ("calibration", ["reliability", "count"], [1]),
        ("calibration", ["reliability", "edges", 0], 2.0),
        ("sets", ["rows", 0, "class_coverage"], [0.9]),
        ("sets", ["alpha"], None),
        ("collapse", ["classes"], ["a"]),
        ("factors", ["r2", "h"], []),
        ("corruptions", ["accuracy", "h", "snow"], [0.5]),
        ("corruptions", ["severities"], []),
        ("attacks", ["rows", 0, "radii"], [0.0]),
    ],
)
def test_lengths_that_do_not_fit_are_refused(name, path, value):
    content = copy.deepcopy(evaluation_sections.sections()[name])
    place = content
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(ValueError, match=f"lengths in section {name} do not fit"):
        sections({name: content})


def test_sections_that_are_no_object_are_refused(runs):
    content = runs.evaluation(format=2, sections=[1])
    with pytest.raises(UsageError, match="expected a dict, got list"):
        read(runs(evaluation=content), name="a")


def test_a_comparison_names_runs_that_are_there():
    found = comparison(evaluation_sections.comparison(2))
    assert [(row["a"], row["b"]) for row in found["rows"]] == [(1, 0), (1, 0)]
    for change in (
        {"runs": ["one"]},
        {"cka": [[1.0]]},
        {"rows": [{"a": None, "b": 0, "measure": "probe", "labels": "all"}]},
    ):
        with pytest.raises(ValueError, match="of runs that are not there"):
            comparison(evaluation_sections.comparison(2) | change)
    assert comparison(evaluation_sections.comparison(2) | {"cka": None})["cka"] is None


def test_features_need_no_run(runs):
    folder = runs.features()
    run = read(folder, name="a")
    assert run.features == ("/data/F.npz", {"h": "1,797 × 64"})
    assert (run.recipe, run.rows, run.command) == ({}, [], "")
    assert run.figures.query_images.shape == (0, 1, 1, 1)
    content = json.loads((folder / "evaluation.json").read_text())
    (folder / "evaluation.json").write_text(json.dumps(content | {"table": 3}))
    with pytest.raises(UsageError, match="rl-jax evaluate --features FILE"):
        read(folder, name="a")
    del content["features"]
    (folder / "evaluation.json").write_text(json.dumps(content))
    with pytest.raises(UsageError, match="is not a run"):
        read(folder, name="a")
