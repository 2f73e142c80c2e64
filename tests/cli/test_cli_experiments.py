"""`rl-jax experiments`: finds them in a checkout, or says that there are none."""

import sys

import pytest

import experiments
from rl_jax.cli import COMMANDS, main, usage
from rl_jax.cli import experiments as command


def one_line(capfd, *argv, code=2):
    with pytest.raises(SystemExit) as stopped:
        main(["experiments", *argv])
    error = capfd.readouterr().err
    assert stopped.value.code == code
    assert error.count("\n") == 1, error
    assert error.startswith("rl-jax: experiments: ")
    return error


def test_without_a_checkout(capfd, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "ROOT", tmp_path)
    assert "no folder experiments/ beside the package" in one_line(capfd)


def test_every_command_is_in_the_help():
    lines = [line.split()[:1] for line in usage().splitlines()]
    assert [[name] for name in COMMANDS if [name] not in lines] == []
    assert "experiments" in COMMANDS


def test_arguments_and_exit_code_are_passed_on(monkeypatch):
    ran = []
    monkeypatch.setattr(command, "_run", lambda argv: ran.append(argv) or 1)
    with pytest.raises(SystemExit) as stopped:
        main(["experiments", "circle", "--steps", "3"])
    assert (stopped.value.code, ran) == (1, [["circle", "--steps", "3"]])
    monkeypatch.setattr(command, "_run", lambda argv: 0)
    main(["experiments"])


def test_from_another_folder(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    main(["experiments", "--list"])
    said = capfd.readouterr().out
    assert all(name in said for name in experiments.NAMES)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_name(capfd):
    error = one_line(capfd, "linear_autoencodre")
    assert "there is no 'linear_autoencodre'; did you mean linear_autoencoder" in error


def test_lists_import_nothing_heavy(monkeypatch, capfd):
    code = (
        "import sys; from experiments import runner; runner.main(sys.argv[1:]);"
        "assert not {'jax', 'flax', 'tyro', 'matplotlib'} & set(sys.modules)"
    )

    def flags(argv):
        real = list(argv)
        real[real.index("-m") : real.index("-m") + 2] = ["-c", code]
        return real

    popen = command.subprocess.Popen
    monkeypatch.setattr(
        command.subprocess, "Popen", lambda argv, **more: popen(flags(argv), **more)
    )
    main(["experiments", "--list"])
    main(["experiments", "--quick-help"])
    assert "Baldi & Hornik" in capfd.readouterr().out


class Stopped:
    """A process that ends after an interrupt, or by a signal."""

    def __init__(self, *codes):
        self.codes = list(codes)

    def __call__(self, command, **more):
        assert command[:4] == [sys.executable, "-P", "-m", "experiments"]
        return self

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    def wait(self):
        code = self.codes.pop(0)
        if code is KeyboardInterrupt:
            raise code
        return code


@pytest.mark.parametrize(
    ("codes", "code"), [([0], 0), ([KeyboardInterrupt, -11], 130), ([-9], 137)]
)
def test_how_it_ends(monkeypatch, codes, code):
    monkeypatch.setattr(command.subprocess, "Popen", Stopped(*codes))
    assert command._run([]) == code


@pytest.mark.slow
def test_one_of_them(tmp_path, capfd):
    main(["experiments", "linear_autoencoder", "--out", str(tmp_path / "out")])
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "results.json",
        "atlas.html",
    }
    assert "1 of 1 hold" in capfd.readouterr().out
