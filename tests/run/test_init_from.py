"""A run that starts with the encoder of another."""

import json
import shutil

import jax
import numpy as np
import pytest

from rl_jax import networks, train
from rl_jax.augment import presets as augmentations
from rl_jax.cli import recipe as commands
from rl_jax.errors import UsageError
from rl_jax.run import datasets, pretrain, trained, weights
from rl_jax.run import recipe as recipes
from rl_jax.run.complete import complete
from rl_jax.run.init_from import InitFrom
from rl_jax.run.outline import outline
from rl_jax.train.digests import layout

pytestmark = pytest.mark.core
BAD = ({"run": 3}, {"run": "a", "step": "2"}, {"step": 2}, {"run": "", "x": 1})
PROJECTOR = recipes.resolve(networks.projection_head, hidden=8, out=4)


def data_in(folder, *, side=8):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (48, side, side, 1)).astype(np.uint8)
    path = folder / f"{side}.npz"
    np.savez(path, image=image, label=np.arange(48) % 3)
    return datasets.spec_of(str(path))


def recipe(data, method="supervised", *, init_from=None, out=8, **changes):
    made = recipes.Recipe(
        data=data,
        augment=recipes.resolve(augmentations.digits),
        networks={
            "encoder": recipes.resolve(networks.mlp, features=(8,), out=out),
            "projector": PROJECTOR,
            "predictor": recipes.resolve(networks.prediction_head, hidden=8),
        },
        method=recipes.Spec(method, {}),
        optimizer=recipes.resolve(train.sgd, learning_rate=1e-3),
        steps=2,
        batch_size=8,
        seed=5,
        probe=True,
        log_every=1,
        checkpoint_every=1,
        init_from=init_from,
    )
    if method in ("supervised", "moco"):
        roles = ("encoder",) if method == "supervised" else ("encoder", "projector")
        made = made._replace(networks={r: made.networks[r] for r in roles})
    if method == "moco":
        made = made._replace(method=recipes.Spec(method, {"queue_size": 16}))
    return complete(made._replace(**changes), datasets.build(data))


@pytest.fixture(scope="module")
def moco(tmp_path_factory):
    """The data, the folder of a MoCo of two checkpoints, and its newest encoder."""
    folder = tmp_path_factory.mktemp("moco")
    data = data_in(folder)
    made = recipe(data, "moco", seed=1)
    state = pretrain.initial(made, recipes.build(made, datasets.build(data)))()
    other = {
        name: jax.tree.map(lambda x: x + 1, getattr(state.state, name))
        for name in ("target", "target_state")
    }
    state = state._replace(state=state.state._replace(**other))
    with train.Checkpoints(folder / "run" / "checkpoints") as checkpoints:
        for step in (1, 2):
            params = jax.tree.map(lambda x: x * (1 + x), state.params)
            state = state._replace(params=params)
            checkpoints.save(step, state)
        checkpoints.finish()
    recipes.write(made, folder / "run" / "run.json")
    encoder = state.params["method"]["encoder"]
    given = jax.device_get((encoder, state.state.online["encoder"]))
    return data, folder / "run", given


def same(a, b):
    alike = jax.tree.map(lambda x, y: np.array_equal(x, y), a, b)
    return jax.tree.all(alike)


def first(made, source):
    """The parts of a run and its first state, with the weights it names."""
    parts = recipes.build(made, source)
    origin, given = weights.read(made, source)
    return parts, origin, pretrain.initial(made, parts, given)


def test_the_encoder_starts_with_the_weights_and_the_head_at_random(moco):
    data, folder, given = moco
    source = datasets.build(data)
    made = recipe(data, init_from=InitFrom(str(folder)))
    parts, origin, init = first(made, source)
    assert origin.step == 2
    assert len(origin.digest) == 64
    state, random = init(), pretrain.initial(made, parts)()
    mine = (state.params["method"]["encoder"], state.state["encoder"])
    assert same(mine, given)
    assert not same(random.params["method"]["encoder"], given[0])
    head = state.params["method"]["classifier"]
    assert same(head, random.params["method"]["classifier"])
    assert max(np.asarray(x).std() for x in jax.tree.leaves(head)) > 0
    # Constants of the program would be compiled into it, and stay as long as it does.
    text = init.func.lower(*init.args).as_text()
    assert text.count("%arg") >= len(jax.tree.leaves(given))
    assert 'dense<"0x' not in text


def test_copies_that_a_method_makes_are_copies_of_the_weights(moco):
    data, folder, given = moco
    made = recipe(data, "byol", init_from=InitFrom(str(folder)))
    *_, init = first(made, datasets.build(data))
    state = init()
    assert same(state.params["method"]["encoder"], given[0])
    assert same(state.state.target["encoder"], given[0])
    assert same(state.state.target_state["encoder"], given[1])
    assert same(state.state.target["projector"], state.params["method"]["projector"])


@pytest.mark.parametrize(
    "method",
    [
        *("moco", "memory_bank", "vae", "sparse_autoencoder", "mae", "simmim"),
        *("i_jepa", "ibot", "dino_v2", "bert", "cpc", "clip"),
    ],
)
def test_every_method_has_its_encoder_where_it_is_looked_for(method):
    asked = commands.read("pretrain", [method])
    parts = recipes.build(asked.recipe, asked.source)
    names = layout(jax.eval_shape(pretrain.initial(asked.recipe, parts)))
    places = weights.PLACES
    found = {weights._place(name, places): entry for name, entry in names.items()}
    found.pop(None)
    assert found == weights._layout(weights._wanted(asked.recipe, asked.source))
    assert len(found) > 1


def test_another_encoder_is_refused_before_anything_is_compiled(
    moco, tmp_path, monkeypatch
):
    data, folder, _ = moco
    monkeypatch.setattr(pretrain, "_train", lambda *a, **k: pytest.fail("it started"))
    convnet = {"encoder": recipes.resolve(networks.convnet, widths=(4,))}
    origin = InitFrom(str(folder))
    wide, other = recipe(data, out=9), recipe(data, networks=convnet)
    larger = recipe(data_in(tmp_path, side=6))
    for made, words in (
        (wide, "its encoder does not fit: out is 8 there, 9 here; use the same"),
        (other, "its encoder is mlp, here it is convnet; use --encoder mlp"),
        (larger, r"Dense_0/kernel is float32.64, 8. there, float32.36, 8. here"),
    ):
        source = datasets.build(made.data)
        with pytest.raises(UsageError, match=words) as error:
            pretrain.start(
                made._replace(init_from=origin), source, tmp_path / "run", command=""
            )
        assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_an_encoder_of_other_tokens_is_refused(tmp_path):
    def asked(name, *lines):
        path = tmp_path / f"{name}.txt"
        path.write_text("\n".join(lines * 20))
        return commands.read("pretrain", ["bert", "--data", str(path)])

    one, two = asked("one", "an apple a day", "keeps"), asked("two", "one fine day")
    folder = tmp_path / "run"
    (folder / "checkpoints" / "4").mkdir(parents=True)
    told = outline(one.source)
    recipes.write(one.recipe, folder / "run.json", outline=told)
    origin = InitFrom(str(folder))
    weights.check(one.recipe._replace(init_from=origin), one.source)
    with pytest.raises(UsageError, match="tokens, others than") as error:
        weights.check(two.recipe._replace(init_from=origin), two.source)
    assert "\n" not in str(error.value)


def unstarted(moco, folder, monkeypatch):
    """A run of which nothing but `run.json` is there, and a copy of what it is from."""
    data, source, _ = moco
    origin = shutil.copytree(source, folder / "origin")
    made = recipe(data, init_from=InitFrom(str(origin)))
    with monkeypatch.context() as m:
        m.setattr(pretrain, "_train", lambda *a, **k: None)
        pretrain.start(made, datasets.build(data), folder / "run", command="")
    noted = json.loads((folder / "run" / "run.json").read_text())["recipe"]["init_from"]
    assert noted["run"] == str(origin)
    assert noted["step"] == 2
    return folder / "run", origin


def test_without_a_checkpoint_the_weights_must_be_those_that_were_noted(
    moco, tmp_path, monkeypatch
):
    run, origin = unstarted(moco, tmp_path, monkeypatch)
    found = trained.load(origin, decode=False)
    shutil.rmtree(origin / "checkpoints")
    with pytest.raises(UsageError, match="it has no checkpoint; train it first"):
        pretrain.resume(run)
    params = jax.tree.map(lambda x: x + 1, found.state.params)
    with train.Checkpoints(origin / "checkpoints") as checkpoints:
        checkpoints.save(3, found.state)
        checkpoints.finish()
        with pytest.raises(UsageError, match="it has no checkpoint 2 any more"):
            pretrain.resume(run)
        checkpoints.save(2, found.state._replace(params=params))
        checkpoints.finish()
    with pytest.raises(UsageError, match="the encoder of checkpoint 2 has changed"):
        pretrain.resume(run)
    assert not (run / "checkpoints").exists()


def test_a_run_goes_on_without_the_one_it_started_from(moco, tmp_path, monkeypatch):
    run, origin = unstarted(moco, tmp_path, monkeypatch)
    state = pretrain.resume(run)
    expected = train.fingerprint(state)
    # Two small steps away from where it started.
    steps = jax.tree.map(
        lambda x, y: np.abs(x - y).max(), state.params["method"]["encoder"], moco[2][0]
    )
    assert 0 < max(jax.tree.leaves(steps)) < 0.05
    shutil.rmtree(origin)
    shutil.rmtree(run / "checkpoints" / "2")
    assert train.fingerprint(pretrain.resume(run)) == expected
    # The baseline is a network that has learned nothing, here as everywhere.
    found = trained.load(run)
    parts = recipes.build(found.recipe, found.parts.source)
    assert same(found.untrained.params, pretrain.initial(found.recipe, parts)().params)
    assert not same(found.untrained.params["method"]["encoder"], moco[2][0])


def test_a_checkpoint_that_is_not_sound_is_passed_over(moco, tmp_path, capsys):
    data, source, given = moco
    origin = shutil.copytree(source, tmp_path / "origin")
    (origin / "checkpoints" / "2" / "meta" / "metadata").write_text("{")
    made = recipe(data, init_from=InitFrom(str(origin)))
    found, weight = weights.read(made, datasets.build(data))
    assert found.step == 1
    assert not same(weight.params, given[0])
    assert "checkpoint 2 is not sound" in capsys.readouterr().out
    assert (origin / "checkpoints" / "2").is_dir()


def test_flags_of_the_encoder_follow_the_other_run(moco):
    data, folder, _ = moco
    words = ["supervised", "--data", data.arguments["path"], "--init-from", str(folder)]
    asked = commands.read("pretrain", words)
    assert asked.recipe.init_from == InitFrom(str(folder))
    spec, _ = recipes.read(folder / "run.json")
    assert asked.recipe.networks["encoder"] == spec.networks["encoder"]
    with pytest.raises(UsageError, match="is not a run: no run.json there"):
        commands.read("pretrain", [*words[:-1], str(folder / "none")])


def test_a_run_of_before_reads_as_one_with_random_weights_and_all_labels(
    moco, tmp_path
):
    data, _, _ = moco
    recipes.write(recipe(data), tmp_path / "run.json")
    content = json.loads((tmp_path / "run.json").read_text())
    del content["recipe"]["init_from"], content["recipe"]["labels"]
    (tmp_path / "run.json").write_text(json.dumps(content))
    assert recipes.read(tmp_path / "run.json")[0] == recipe(data)
    for bad in BAD:
        content["recipe"]["init_from"] = bad
        (tmp_path / "run.json").write_text(json.dumps(content))
        with pytest.raises(UsageError, match="cannot be read as a run"):
            recipes.read(tmp_path / "run.json")
    made = recipe(data, init_from=InitFrom("there", 4, "abc"))
    recipes.write(made, tmp_path / "run.json")
    assert recipes.read(tmp_path / "run.json")[0] == made
