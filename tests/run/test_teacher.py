"""Of methods whose authors evaluate the teacher that network is taken, and named."""

import json
import shutil

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file
from test_init_from import data_in, recipe, same

from rl_jax import report, run, train
from rl_jax.cli import recipe as commands
from rl_jax.errors import UsageError
from rl_jax.run import datasets, described, embed, evaluation, export, trained, weights
from rl_jax.run import recipe as recipes
from rl_jax.run import summary as summaries
from rl_jax.run.earlier import origin
from rl_jax.run.init_from import InitFrom
from rl_jax.run.measures import SECTIONS
from rl_jax.train.digests import layout

TEACHERS = {
    "dino": "teacher",
    "ibot": "teacher",
    "dino_v2": "teacher",
    "i_jepa": "target",
}
pytestmark = pytest.mark.core


def dino_recipe(data):
    made = recipe(data, "moco", seed=1)
    return made._replace(
        method=recipes.Spec("dino", {"total_steps": 2, "prototypes": 8})
    )


@pytest.fixture(scope="module")
def dino(tmp_path_factory):
    """The data, and a run of DINO whose student is far from the teacher."""
    folder = tmp_path_factory.mktemp("dino")
    data = data_in(folder)
    made = dino_recipe(data)
    parts = recipes.build(made, datasets.build(data))
    state = weights.initial(made, parts)()
    state = state._replace(
        params=jax.tree.map(lambda x: 1.5 * x + 0.1, state.params),
        step=state.step + 2,
    )
    with train.Checkpoints(folder / "run" / "checkpoints") as checkpoints:
        checkpoints.save(2, state)
        checkpoints.finish()
    recipes.write(made, folder / "run" / "run.json", network=parts.method.network)
    return data, folder / "run"


def of_both(folder):
    """What teacher and student make of the run's images."""
    found = trained.load(folder, say=lambda line: None)
    encoder = recipes.call(
        recipes.find(recipes.ROLES["encoder"], "mlp", "encoder"),
        **found.recipe.networks["encoder"].arguments,
    )
    state, params = found.state.state, found.state.params["method"]
    x = found.parts.augment.clean(found.parts.source.images)
    both = (
        (state.target["encoder"], state.target_state["encoder"]),
        (params["encoder"], state.online["encoder"]),
    )
    made = [np.asarray(encoder.apply(*each, x, train=False)[0]) for each in both]
    assert np.abs(made[0] - made[1]).max() > 0.1
    return made


@pytest.mark.parametrize("method", recipes.METHODS, ids=lambda f: f.__name__)
def test_every_method_says_which_network_is_evaluated(method):
    asked = commands.read("pretrain", [method.__name__])
    made = recipes.build(asked.recipe, asked.source).method
    assert made.network == TEACHERS.get(method.__name__, "online")
    assert made.network == weights.NOT_NOTED.get(method.__name__, "online")


def test_h_is_the_teacher_s_everywhere(dino, tmp_path):
    data, folder = dino
    teacher, student = of_both(folder)
    found = trained.load(folder)
    ours = run.encode(
        found.parts.method, found.parts.augment, found.state, found.parts.source
    )
    assert set(ours) == {"h", "z", "online_h"}
    np.testing.assert_allclose(ours["h"], teacher, atol=1e-5)
    np.testing.assert_allclose(ours["online_h"], student, atol=1e-5)

    embed.embed(folder, data.arguments["path"], tmp_path / "found.npz")
    with np.load(tmp_path / "found.npz") as arrays:
        np.testing.assert_allclose(arrays["h"], teacher, atol=1e-5)
        np.testing.assert_allclose(arrays["online_h"], student, atol=1e-5)


def test_an_export_has_the_weights_of_the_teacher(dino, tmp_path, capsys):
    _, folder = dino
    export.export(folder, tmp_path / "export")
    record = json.loads((tmp_path / "export" / "export.json").read_text())
    assert record["network"] == "teacher"
    assert [o["name"] for o in record["functions"][0]["outputs"]] == ["h", "z"]
    tensors = load_file(tmp_path / "export" / "model.safetensors")
    kernel = tensors["state/target/encoder/Dense_0/kernel"]
    state = trained.load(folder).state.state
    np.testing.assert_array_equal(kernel, state.target["encoder"]["Dense_0"]["kernel"])
    assert {name.split("/")[0] for name in tensors} == {"state"}
    assert "tensors of the teacher network" in capsys.readouterr().out


def test_the_record_the_table_and_the_page_name_it(dino, tmp_path, capsys):
    _, source = dino
    folder = shutil.copytree(source, tmp_path / "run")
    result = evaluation.evaluate_run(folder, skip=SECTIONS)
    assert "checkpoint of step 2, the teacher network" in capsys.readouterr().out
    assert result["checkpoint"]["network"] == "teacher"
    words = "h and z of the teacher network, the moving average of what is trained"
    assert words in result["evaluated"]
    rows = {row["representation"]: row for row in result["table"]}
    networks = {name: row["network"] for name, row in rows.items()}
    assert networks == {
        "h": "teacher",
        "z": "teacher",
        "online_h": "online",
        "random": "untrained",
        "raw": "",
    }
    assert rows["h"]["title"] == "dino teacher h"
    assert rows["online_h"]["title"] == "dino online_h"
    assert "dino teacher h [8]" in summaries.table(result)
    with np.load(folder / "predictions.npz") as found:
        teacher, _ = of_both(folder)
        for h, index in zip(found["h"], found["h_index"], strict=True):
            np.testing.assert_allclose(h, teacher[index], atol=1e-5)
    page = report.write([folder], folder / "report.html").read_text()
    assert "<b>h</b> of the teacher network" in page
    assert words in page


def test_what_was_measured_of_the_student_is_not_kept_for_the_teacher(
    dino, tmp_path, monkeypatch
):
    """Of the same weights, by a version that took the other network."""
    _, source = dino
    folder, seen = shutil.copytree(source, tmp_path / "run"), []
    monkeypatch.setattr(evaluation, "origin", lambda of: seen.append(of) or origin(of))
    first = evaluation.evaluate_run(folder, skip=set(SECTIONS) - {"geometry"})
    again = evaluation.evaluate_run(folder, skip=SECTIONS)
    assert set(again["sections"]) == {"geometry"}
    assert seen[0].pop("network") == "teacher"
    before = first | {"origin": origin(seen[0])}
    (folder / "evaluation.json").write_text(json.dumps(before))
    assert not evaluation.evaluate_run(folder, skip=SECTIONS)["sections"]


@pytest.mark.parametrize("noted", [True, False])
def test_an_encoder_starts_with_the_teacher(dino, tmp_path, noted):
    """Also where the run is of a version that noted no network."""
    data, source = dino
    folder = shutil.copytree(source, tmp_path / "run")
    if not noted:
        content = json.loads((folder / "run.json").read_text())
        del content["network"]
        (folder / "run.json").write_text(json.dumps(content))
    state = trained.load(folder).state.state
    made = recipe(data, init_from=InitFrom(str(folder)))
    _, found = weights.read(made, datasets.build(data))
    assert same(found.params, state.target["encoder"])
    assert same(found.state, state.target_state["encoder"])
    parts = recipes.build(made, datasets.build(data))
    said = described.lines(made, parts, weights.initial(made, parts, found))
    assert f"that of {folder}, the teacher network; all else is random" in str(said)


def test_a_run_that_began_with_the_student_goes_on(dino):
    """As a version of before noted it; any other digest is refused."""
    data, folder = dino
    state = trained.load(folder).state
    student = weights.Weights(
        state.params["method"]["encoder"], state.state.online["encoder"]
    )
    origin = InitFrom(str(folder), 2, weights._digest(student))
    made = recipe(data, init_from=origin)
    found, given = weights.read(made, datasets.build(data))
    assert found == origin
    assert same(given.params, student.params)
    other = made._replace(init_from=origin._replace(digest="0"))
    with pytest.raises(UsageError, match="the encoder of checkpoint 2 has changed"):
        weights.read(other, datasets.build(data))


@pytest.mark.parametrize("method", ["ibot", "dino_v2", "i_jepa"])
def test_a_teacher_s_encoder_is_where_it_is_looked_for(method):
    asked = commands.read("pretrain", [method])
    parts = recipes.build(asked.recipe, asked.source)
    names = layout(jax.eval_shape(weights.initial(asked.recipe, parts)))
    found = {weights._place(n, weights.AVERAGE): entry for n, entry in names.items()}
    found.pop(None)
    assert found == weights._layout(weights._wanted(asked.recipe, asked.source))
