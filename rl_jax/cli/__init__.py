"""The command line: `rl-jax COMMAND ...`; heavy imports wait until they are used."""

import importlib
import itertools
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence

from rl_jax.errors import RunError, Stopped, WorkerError

COMMANDS = {
    "pretrain": ("rl_jax.cli.pretrain", "train an encoder, evaluate it, write a page"),
    "plan": ("rl_jax.cli.plan", "memory, operations and least time, before a run"),
    "runs": ("rl_jax.cli.listing", "list the runs of a folder, and how far they are"),
    "resume": ("rl_jax.cli.runs", "continue a run that was stopped or killed"),
    "evaluate": ("rl_jax.cli.runs", "probe and k-NN of a run, beside the baselines"),
    "report": ("rl_jax.cli.runs", "write the HTML page of one run or several"),
    "embed": ("rl_jax.cli.runs", "write the representations of any images to .npz"),
    "export": ("rl_jax.cli.runs", "write the encoder as safetensors and StableHLO"),
    "doctor": (
        "rl_jax.cli.doctor",
        "check versions, devices, disk, decoding, the loss",
    ),
    "experiments": (
        "rl_jax.cli.experiments",
        "compute the claims of the text, in a checkout",
    ),
    "bench": ("rl_jax.cli.bench", "measure memory and speed, in a checkout"),
}
"""Name, module holding the function of that name, and one line of help."""


def main(argv: Sequence[str] | None = None) -> None:
    """Runs one command; a known error is one line on stderr and its own exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return
    if argv[0] == "--version":
        from rl_jax import __version__

        print(f"rl_jax {__version__}")
        return
    if argv[0] not in COMMANDS:
        _fail(f"unknown command {argv[0]!r}; there are: {', '.join(COMMANDS)}", 2)
    for before, word in itertools.pairwise(argv):
        name, equals, value = word.partition("=")
        if not word.strip() or (name[:2] == "--" and equals and not value.strip()):
            name = name if equals else before
            _fail(f"{name}: the value that follows is empty; is a variable unset?", 2)
    module, _ = COMMANDS[argv[0]]

    def command(rest: Sequence[str]) -> None:
        getattr(importlib.import_module(module), argv[0])(rest)

    guarded(command, argv[1:])


def guarded(command: Callable[[Sequence[str]], None], argv: Sequence[str]) -> None:
    """Runs a command; what a user can act on is one line, with its exit code."""
    # Orbax and Grain say through absl what is no concern of the user's.
    logging.getLogger("absl").setLevel(logging.ERROR)
    before = signal.getsignal(signal.SIGINT)
    try:
        if before is signal.default_int_handler:
            signal.signal(signal.SIGINT, _interrupted)
        command(argv)
    except RunError as error:
        # A stop is agreed on: all of several processes end by themselves.
        _fail(str(error), error.exit_code, agreed=isinstance(error, Stopped))
    except KeyboardInterrupt:
        _fail("interrupted", 130)
    except BrokenPipeError:
        # The reader of a pipe has gone; Python would say so once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{error.strerror or error}; nothing saved before is lost", 1)
    except Exception as error:
        if (train := _joined()) is None:
            raise
        if said := train.lost(error):
            _fail(said, WorkerError.exit_code)
        sys.excepthook(type(error), error, error.__traceback__)
        train.leave(1, f"{type(error).__name__}: {error}")
    finally:
        if before is signal.default_int_handler:
            signal.signal(signal.SIGINT, before)


def _interrupted(number, frame) -> None:
    """Ctrl-C: an exception, but within an import, which may lose it or abort."""
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            print("rl-jax: interrupted", file=sys.stderr, flush=True)
            os._exit(128 + number)
        frame = frame.f_back
    raise KeyboardInterrupt


def usage() -> str:
    """The text of `rl-jax --help`."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: rl-jax COMMAND [OPTIONS]",
            "",
            "Representation learning in JAX: train an encoder on images, no labels.",
            "",
            *lines,
            "",
            "  rl-jax pretrain simclr --data digits   the embedded handwritten digits",
            "  rl-jax pretrain byol --data photos/    your own folder of images",
            "  rl-jax COMMAND --help                  every option of a command",
        ]
    )


def _fail(message: str, code: int, *, agreed: bool = False) -> None:
    line = " ".join(message.split())
    print(f"rl-jax: {line}", file=sys.stderr)
    if not agreed and (train := _joined()) is not None:
        train.leave(code, line)
    sys.exit(code)


def _joined():
    """`rl_jax.train` where this is one of several processes; else it need not load."""
    train = sys.modules.get("rl_jax.train")
    joined = getattr(train, "joined", None)  # not there while it is being imported
    return train if joined is not None and joined() else None
