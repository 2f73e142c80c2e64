"""Networks, views, data, optimizers and methods of a user's own, start to export."""

import hashlib
import importlib
import json
import pathlib
import shutil
import sys

import jax
import numpy as np
import pytest

from rl_jax import own, run
from rl_jax.cli import main
from rl_jax.cli.recipe import read
from rl_jax.run import evaluation
from rl_jax.run.measures import SECTIONS

CODE = '''
from __future__ import annotations

import numpy as np
import optax

from rl_jax import augment, data, methods, networks
from rl_jax.types import Augment, Method, Network


def small(*, width: int = 8, depths: tuple[int, ...] = (8,)) -> Network:
    """A perceptron.

    Args:
      width: of the last layer.
      depths: of those before.
    """
    return networks.mlp(features=depths, out=width, batch_norm=False)


def head(*, out: int = 4) -> Network:
    return networks.mlp(features=(), out=out, batch_norm=False)


def narrow(*, columns: int = 4) -> Network:
    return head(out=columns)


def views(*, noise: float = 0.1) -> Augment:
    return augment.digits(noise=noise)


def stripes(*, count: int = 40, path: str = "nowhere") -> data.Source:
    rng = np.random.default_rng(0)
    label = np.arange(count) % 2
    image = rng.integers(0, 99, (count, 8, 8, 1)) + 99 * label[:, None, None, None]
    return data.arrays(image.astype(np.uint8), label, name=path)


def method(encoder, projector, *, heat: float = 0.5, num_examples: int) -> Method:
    assert num_examples == 40
    return methods.simclr(encoder, projector, temperature=heat)


def descent(*, rate: float = 0.1, total_steps: int) -> optax.GradientTransformation:
    return optax.adam(optax.cosine_decay_schedule(rate, total_steps))


def bare(*, width: int = 8):
    return head()


def unfilled(*, width: int) -> Network:
    return head()


def untyped(*, width=8) -> Network:
    return head()


def unknown(*, width: Width = 8) -> Network:
    return head()


def listed(*, widths: list[int] = [8]) -> Network:
    return head()


def raising(*, width: int = 8) -> Network:
    raise KeyError(f"no {width}")


def strict(*, width: int = 8) -> Network:
    return networks.mlp(features=(0,), out=width)


def lying(*, width: int = 8) -> Network:
    return width


def odd(encoder, temperature) -> Method:
    return encoder


def untraceable(*, width: int = 8) -> Network:
    def apply(params, state, x, **how):
        return int(x), state

    return head()._replace(apply=apply)
'''
OWN = [
    *("--data", "mine:stripes", "--data.path", "somewhere", "--augment", "mine:views"),
    *("--encoder", "mine:small", "--encoder.width", "6", "--projector", "mine:head"),
    *("--optimizer", "mine:descent", "--optimizer.rate", "0.01"),
]
SHORT = ["--steps", "4", "--checkpoint-every", "2", "--batch-size", "8"]
IMPORT = ["--import", "mine"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with mine.py, and a run of four steps that is all of it."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "mine.py").write_text(CODE)
    with pytest.MonkeyPatch.context() as patch:
        alone(patch, folder)
        argv = ["pretrain", "mine:method", *OWN, *SHORT, "--run-dir", "run"]
        main([*argv, "--no-evaluate"])
    return folder


def alone(patch, folder):
    """In that folder, as a program that has not imported what is in it."""
    patch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    patch.chdir(folder)
    patch.setattr(sys, "path", [p for p in sys.path if p])
    patch.setattr(sys, "dont_write_bytecode", True)
    importlib.invalidate_caches()
    for name in ("mine", "evil", "broken", "leaving"):
        patch.delitem(sys.modules, name, raising=False)


@pytest.fixture
def here(made, tmp_path, monkeypatch):
    """A copy of the folder, and the program's state of before."""
    folder = shutil.copytree(made, tmp_path / "here")
    alone(monkeypatch, folder)
    yield folder
    for name in ("mine", "evil", "broken", "leaving"):
        sys.modules.pop(name, None)


def tried(capsys, *argv):
    """Exit code, standard output and error of a command."""
    capsys.readouterr()
    code = 0
    try:
        main([str(a) for a in argv])
    except SystemExit as stopped:
        code = stopped.code
    return code, *capsys.readouterr()


def one_line(capsys, *argv):
    code, _, error = tried(capsys, *argv)
    assert code == 2, error
    assert error.startswith("rl-jax: ")
    assert error.count("\n") == 1
    assert "Traceback" not in error
    return error


def edit(folder, **parts):
    """Gives parts of a run another factory and arguments."""
    path = folder / "run" / "run.json"
    content = json.loads(path.read_text())
    for name, (factory, arguments) in parts.items():
        recipe = content["recipe"]
        where = recipe if name in recipe else recipe["networks"]
        where[name] = {"factory": factory, "arguments": arguments}
    path.write_text(json.dumps(content))


def test_the_record_has_every_argument_and_the_digest_of_the_code(here):
    content = json.loads((here / "run" / "run.json").read_text())
    recipe = content["recipe"]
    assert recipe["method"] == {
        "factory": "mine:method",
        "arguments": {"heat": 0.5, "num_examples": 40},
    }
    assert recipe["networks"]["encoder"] == {
        "factory": "mine:small",
        "arguments": {"width": 6, "depths": [8]},
    }
    assert recipe["data"]["arguments"] == {"count": 40, "path": "somewhere"}
    assert recipe["augment"]["factory"] == "mine:views"
    assert recipe["optimizer"]["arguments"] == {"rate": 0.01, "total_steps": 4}
    assert content["own"] == {"mine": hashlib.sha256(CODE.encode()).hexdigest()}


def test_weights_of_an_own_encoder(here, capsys):
    start = ["simclr", "--init-from", "run", "--data", "mine:stripes"]
    said = one_line(capsys, "pretrain", *start[:3], "--run-dir", "new")
    assert "name it: --encoder mine:small" in said
    assert "mine" not in sys.modules
    assert not (here / "new").exists()
    asked = read("pretrain", [*start, *OWN[2:6], "--encoder", "mine:small"])
    assert asked is not None
    assert asked.recipe.networks["encoder"].arguments == {"width": 6, "depths": (8,)}


def test_resume_is_bit_for_bit(here, capsys):
    whole = shutil.copytree(here / "run", here / "whole")
    shutil.rmtree(here / "run" / "checkpoints" / "4")
    code, said, _ = tried(capsys, "resume", *IMPORT, "run", "--no-evaluate")
    assert code == 0
    assert "continuing from the checkpoint of step 2" in said
    one, two = (run.load(folder).state for folder in (whole, here / "run"))
    assert int(two.step) == 4
    jax.tree.map(np.testing.assert_array_equal, one.params, two.params)
    jax.tree.map(np.testing.assert_array_equal, one.opt_state, two.opt_state)


def test_everything_after_training(here, capsys):
    skip = ["--labels", "1", "--skip", *SECTIONS]
    code, said, _ = tried(capsys, "evaluate", "run", *skip, *IMPORT)
    assert code == 0
    assert "warning" not in said
    names = {row["representation"] for row in evaluation.read(here / "run")["table"]}
    assert names == {"h", "z", "random", "raw"}
    argv = ["embed", "run", "mine:stripes", "-o", "found.npz", *IMPORT]
    assert tried(capsys, *argv)[0] == 0
    assert np.load("found.npz")["h"].shape == (40, 6)
    code, said, _ = tried(capsys, "export", "run", *IMPORT)
    assert code == 0
    record = json.loads((here / "run" / "export" / "export.json").read_text())
    assert record["networks"]["encoder"]["factory"] == "mine:small"


EMBED = ["embed", "run", "digits", "-o", "found.npz"]


@pytest.mark.parametrize(
    "argv",
    [
        ["resume", "run", "--no-evaluate"],
        ["evaluate", "run", "--skip", "cka"],
        EMBED,
        ["export", "run"],
    ],
    ids=lambda argv: argv[0],
)
def test_without_the_word_of_the_user_nothing_is_imported(here, capsys, argv):
    before = sorted((here / "run").rglob("*"))
    error = one_line(capsys, *argv)
    assert "run: made with own code, mine:stripes, mine:views, mine:method, " in error
    assert error.endswith(f"go on with: rl-jax {' '.join([*argv, *IMPORT])}\n")
    assert "mine" not in sys.modules
    assert sorted((here / "run").rglob("*")) == before


def test_all_modules_are_named_at_once(here, capsys):
    edit(here, encoder=("evil:small", {}))
    shutil.copytree(here / "run", here / "run2")
    edit(here, encoder=("mine:small", {}))
    error = one_line(capsys, "evaluate", "run", "run2")
    assert "run and run2: made with own code" in error
    assert error.endswith("rl-jax evaluate run run2 --import mine --import evil\n")
    assert own.flags(["mine", "evil"]) == ["--import", "mine", "--import", "evil"]


def test_the_page_needs_no_code_and_says_how_to_go_on(here, capsys):
    assert tried(capsys, "report", "run")[0] == 0
    assert "mine" not in sys.modules
    page = (here / "run" / "report.html").read_text()
    assert "rl-jax evaluate run --import mine" in page


def test_hints_of_a_run_have_the_import(here, capsys):
    error = one_line(capsys, "pretrain", "mine:method", *OWN, "--run-dir", "run")
    assert "continue it with: rl-jax resume run --import mine, or" in error
    shutil.rmtree(here / "run" / "checkpoints")
    error = one_line(capsys, "export", "run", *IMPORT)
    assert "train it first: rl-jax resume run --import mine\n" in error


def test_in_a_program_an_import_is_enough(here, monkeypatch):
    with pytest.raises(ValueError, match="if you trust it, first: import mine"):
        run.load("run")
    monkeypatch.syspath_prepend(here)
    importlib.import_module("mine")
    assert run.load("run").step == 4


EVIL = """
import pathlib
pathlib.Path("harm").write_text("")
from rl_jax import networks
from rl_jax.types import Network
def small() -> Network:
    return networks.mlp()
"""
HARM = {
    "os:system": {"command": "touch harm"},
    "posix:system": {"command": "touch harm"},
    "subprocess:run": {"args": ["touch", "harm"]},
    "shutil:rmtree": {"path": "mine.py"},
    "evil:small": {},
    "run.evil:small": {},
    "builtins:exec": {"source": "open('harm', 'w')"},
    "rl_jax.networks:mlp": {},
    "__main__:main": {},
    "os.path:join": {},
    "mine:views": {},
    "mine:CODE; touch harm": {},
}


@pytest.mark.parametrize(
    ("command", "part"),
    [
        *(("resume", part) for part in ("data", "method", "augment", "optimizer")),
        ("resume", "encoder"),
        ("export", "data"),
        ("export", "encoder"),
    ],
)
def test_a_folder_makes_no_code_run(here, capsys, command, part):
    for folder in (here, here / "run"):
        (folder / "evil.py").write_text(EVIL)
    before = (here / "run" / "run.json").read_text()
    for factory, arguments in HARM.items():
        if (part, factory) == ("augment", "mine:views"):  # which it may be
            continue
        (here / "run" / "run.json").write_text(before)
        edit(here, **{part: (factory, arguments)})
        error = one_line(capsys, command, "run", *IMPORT)
        assert factory in error
        assert not list(here.rglob("harm"))
        assert (here / "mine.py").exists()
        assert "evil" not in sys.modules


def test_a_look_at_a_module_makes_it_import_nothing(monkeypatch):
    """Neither by its own `__getattr__`, nor where it loads at the first look."""
    asked = []

    class Lazy(type(sys)):
        def __getattribute__(self, name):
            asked.append(name)
            return super().__getattribute__(name)

    eager = type(sys)("eager")
    eager.__getattr__ = asked.append
    monkeypatch.setitem(sys.modules, "lazy", Lazy("lazy"))
    monkeypatch.setitem(sys.modules, "eager", eager)
    asked.clear()
    with pytest.raises(own.NotImportedError):
        own.factory("lazy:f", int)
    with pytest.raises(ValueError, match="no function f in eager"):
        own.factory("eager:f", int)
    assert asked == []


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--encoder nothing:small", "module nothing: there is none, neither in"),
        ("--encoder mine.nets:small", "module mine.nets: there is none, neither"),
        ("--encoder mine:large", "mine:large: there is no function large in"),
        ("--encoder mine:CODE", "there is no function CODE in"),
        ("--encoder mine:Network", "there is no function Network in"),
        ("--encoder mine:bare", "mine:bare has no return annotation; expected a func"),
        ("--encoder mine:views", "mine:views makes Augment; expected a function with"),
        ("--augment mine:small", "mine:small makes Network; expected a function with"),
        (
            "--data mine:small",
            "mine:small makes Network; expected a function with -> S",
        ),
        ("--data mine:none", "mine:none: there is no function none in"),
        ("--encoder mine:unfilled", "width has no default, and nothing gives it a val"),
        ("--encoder mine:untyped", "width has no annotation, so that no flag can be"),
        ("--encoder mine:unknown", "its annotations: NameError: name 'Width' is not"),
        ("--encoder mine:listed", "widths is [8], which run.json cannot hold; take"),
        ("--encoder mine:raising", "mine:raising: KeyError: 'no 6' ("),
        ("--encoder mine:strict", "mine:strict: mlp: "),
        ("--encoder mine:lying", "mine:lying returned int, expected Network"),
        ("--encoder mine:untraceable", "own code: TypeError: "),
        ("--encoder broken:small", "module broken: ModuleNotFoundError: No module na"),
        ("--encoder leaving:small", "module leaving: SystemExit: 3 ("),
        ("--encoder mine:", "unknown encoder 'mine:'; there are: convnet, mlp"),
        ("--encoder :small", "unknown encoder ':small'; there are: convnet, mlp"),
        ("--encoder rl_jax.networks:mlp", "is no own code; name factories of rl_jax"),
        ("--encoder os:system", "os:system: there is no function system in"),
        ("--encoder.depth 3", "did you mean --encoder.depths"),
    ],
)
def test_what_is_no_factory_is_refused_in_one_line(here, capsys, flags, words):
    (here / "broken.py").write_text("\nimport no_such_module_of_anybody\n")
    (here / "leaving.py").write_text("import sys\nsys.exit(3)\n")
    changed, value = flags.split()
    asked = dict(zip(OWN[::2], OWN[1::2], strict=True)) | {changed: value}
    asked = [word for pair in asked.items() for word in pair]
    error = one_line(capsys, "pretrain", "simclr", *asked, *SHORT, "--run-dir", "new")
    assert words in error
    if words.endswith("Error: ") or words.endswith("("):
        assert ".py, line " in error
    assert not (here / "new").exists()


def test_methods_that_are_none(here, capsys):
    flags = ["--run-dir", "new", "--data", "mine:stripes"]
    error = one_line(capsys, "pretrain", "mine:odd", *flags)
    assert "mine:odd: its parameter temperature is no network, which are: " in error
    assert "makes Network" in one_line(capsys, "pretrain", "mine:small", *flags)
    argv = ["pretrain", "byol", *flags, "--projector", "mine:narrow"]
    assert "its out is that of the projector, which has none" in one_line(capsys, *argv)
    assert "expected a module, as" in one_line(
        capsys, "resume", "run", "--import", "a b"
    )
    assert not (here / "new").exists()


def test_plan(here, capsys):
    rates = ["--peak-flops", "1e12", "--bandwidth", "1e10"]
    code, said, error = tried(capsys, "plan", "mine:method", *OWN, *SHORT, *rates)
    assert (code, error) == (0, "")
    assert said.startswith("mine:method with mine:small on somewhere: 40 images 8x8x1")


def test_code_that_has_changed_since(here, capsys):
    (here / "mine.py").write_text(f"{CODE}\n# otherwise\n")
    error = one_line(capsys, "resume", "run", "--no-evaluate", *IMPORT)
    where = here / "mine.py"
    assert f"run: own code has changed since the run started: {where}; put" in error
    again = ["resume", "run", *IMPORT, "--allow-changes"]
    assert error.endswith(f"go on as it is now with: rl-jax {' '.join(again)}\n")
    code, said, _ = tried(capsys, *EMBED, *IMPORT)
    assert code == 0
    assert f"warning: own code has changed since the run started: {where}" in said
    assert tried(capsys, *again, "--no-evaluate")[0] == 0
    # What the run goes on with is what its record has.
    now = hashlib.sha256((here / "mine.py").read_bytes()).hexdigest()
    assert json.loads(pathlib.Path("run/run.json").read_text())["own"] == {"mine": now}
    assert tried(capsys, "resume", "run", "--no-evaluate", *IMPORT)[0] == 0


def test_the_file_a_function_was_taken_over_from_is_noted(here, monkeypatch):
    monkeypatch.syspath_prepend(here)
    (here / "evil.py").write_text("from mine import small\n")
    importlib.import_module("evil")
    assert set(own.digests(["evil:small"])) == {"evil", "mine"}


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("np.zeros((8, 8, 1))", "gave float64 [8, 8, 1], expected uint8 [8, 8, 1]"),
        ("np.zeros((8, 4, 1), np.uint8)", "gave uint8 [8, 4, 1]"),
        ("{}['there']", "own code: KeyError: 'there'"),
    ],
)
def test_images_that_are_none(here, capsys, code, said):
    (here / "mine.py").write_text(
        CODE + "\n\ndef odd_images() -> data.Source:\n"
        f"    return stripes()._replace(images=None, load=lambda i: {code})\n"
    )
    argv = ["simclr", "--data", "mine:odd_images", "--encoder", "mlp", *SHORT]
    assert said in one_line(capsys, "pretrain", *argv, "--run-dir", "new")
    assert not (here / "new").exists()


def test_a_method_without_h(here, capsys):
    (here / "mine.py").write_text(
        CODE + "\n\ndef silent(encoder, projector) -> Method:\n"
        "    made = methods.simclr(encoder, projector)\n"
        "    return made._replace(encode=lambda *a: {'q': made.encode(*a)['h']})\n"
    )
    argv = ["mine:silent", "--encoder", "mlp", *SHORT, "--run-dir", "new"]
    assert "gives q in encode" in one_line(capsys, "pretrain", *argv)
    assert "encode gives q" in one_line(capsys, "pretrain", *argv, "--no-probe")
