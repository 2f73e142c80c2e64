"""Commands on the folder of a run: resume, evaluate, report, embed, export."""

import functools
import pathlib
import shlex
from collections.abc import Sequence
from typing import Annotated

import tyro

from rl_jax.cli import options
from rl_jax.cli.cache import enable_compilation_cache

Run = Annotated[pathlib.Path, tyro.conf.Positional]


def finish(folder: pathlib.Path, *, evaluate: bool) -> None:
    """What follows training: the table, and the page last but one line."""
    from rl_jax import report as pages
    from rl_jax.run import evaluation
    from rl_jax.run.signals import Interrupts

    result = None
    hint = f"rl-jax evaluate {shlex.quote(str(folder))}"
    with Interrupts(hint) as interrupts:
        if evaluate:
            poll = functools.partial(interrupts.poll, "before it was evaluated")
            result = evaluation.evaluate_run(folder, poll=poll)
        page = pages.write([folder], folder / "report.html")
    print(f"page: {page}")
    if result is not None:
        print(f"\n{evaluation.table(result)}")


def resume(argv: Sequence[str]) -> None:
    """Continues a run, then evaluates it and writes its page."""

    def command(run: Run, evaluate: bool = True) -> None:
        """Continues a run from its newest sound checkpoint, bit for bit.

        Args:
          run: folder of the run.
          evaluate: evaluate when trained.
        """
        from rl_jax.run import pretrain

        enable_compilation_cache()
        pretrain.resume(run)
        finish(run, evaluate=evaluate)

    options.parse(command, prog="rl-jax resume", argv=argv)


def evaluate(argv: Sequence[str]) -> None:
    """Evaluates the newest checkpoint of a run."""

    def command(run: Run) -> None:
        """Probe and k-NN of a run's newest checkpoint, beside the baselines.

        Args:
          run: folder of the run.
        """
        enable_compilation_cache()
        finish(run, evaluate=True)

    options.parse(command, prog="rl-jax evaluate", argv=argv)


def report(argv: Sequence[str]) -> None:
    """Writes the page of one run or of several side by side."""

    def command(
        runs: Annotated[tuple[pathlib.Path, ...], tyro.conf.Positional],
        output: pathlib.Path | None = None,
    ) -> None:
        """Writes one self-contained HTML page.

        Args:
          runs: folders of one run or several.
          output: the file; by default report.html in the first run's folder.
        """
        from rl_jax import report as pages
        from rl_jax.errors import UsageError

        if not runs:
            raise UsageError("report: name the folder of at least one run")
        print(pages.write(list(runs), output or runs[0] / "report.html"))

    options.parse(command, prog="rl-jax report", argv=argv)


def embed(argv: Sequence[str]) -> None:
    """Writes representations of any images."""

    def command(
        run: Run,
        data: Annotated[str, tyro.conf.Positional],
        output: Annotated[pathlib.Path, tyro.conf.arg(aliases=["-o"])],
    ) -> None:
        """Writes the representations of images by a run's newest checkpoint.

        Args:
          run: folder of the run.
          data: digits, a folder of images, or an .npz or .npy file.
          output: the .npz file; holds an array [n, D] for each representation
            (h, z, ..., and layer1, layer2, ... of the encoder, each the mean over
            positions; text, where a run that learned from captions finds some), and
            `label`, -1 where unknown.
        """
        from rl_jax.run.embed import embed as write

        enable_compilation_cache()
        print(write(run, data, output))

    options.parse(command, prog="rl-jax embed", argv=argv)


def export(argv: Sequence[str]) -> None:
    """Writes the encoder of a run for other programs."""

    def command(run: Run, output: pathlib.Path | None = None) -> None:
        """Writes the encoder of a run's newest checkpoint, and compares what it wrote.

        The folder gets model.safetensors, encode.stablehlo, and export.json, which
        says what is in them and how they are read.

        Args:
          run: folder of the run.
          output: the folder to write; by default `export` in the run's folder.
        """
        from rl_jax.run.export import export as write

        enable_compilation_cache()
        print(write(run, output))

    options.parse(command, prog="rl-jax export", argv=argv)
