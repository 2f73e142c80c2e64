"""Commands on the folder of a run: resume, evaluate, report, embed, export."""

import contextlib
import functools
import pathlib
import shlex
from collections.abc import Callable, Sequence
from typing import Annotated

import tyro

from rl_jax import files, own
from rl_jax.cli import options
from rl_jax.cli.cache import enable_compilation_cache
from rl_jax.errors import UsageError
from rl_jax.run.watchdog import TIMEOUT

Run = Annotated[pathlib.Path, tyro.conf.Positional]
Imports = Annotated[
    tuple[str, ...],
    tyro.conf.UseAppendAction,
    tyro.conf.arg(name="import", help="a module of your own that the run is made of."),
]


def _with_own_code(name: str, command: Callable, argv: Sequence[str]) -> None:
    """Parses and calls; where modules must be imported, says the whole command."""
    try:
        options.parse(command, prog=f"rl-jax {name}", argv=argv)
    except own.NotImportedError as error:
        again = shlex.join(["rl-jax", name, *argv, *own.flags(error.modules)])
        raise UsageError(
            f"{error.what}; if you trust it, go on with: {again}"
        ) from None


def _import(modules: Sequence[str]) -> None:
    for module in modules:
        own.import_module(module)


def finish(folder: pathlib.Path, *, evaluate: bool) -> None:
    """What follows training: the table, and the page last but one line."""
    from rl_jax import report as pages
    from rl_jax import train
    from rl_jax.run import evaluation, summary
    from rl_jax.run.signals import Interrupts

    result = None
    again = own.again("evaluate", folder)
    if train.joined():
        # Only a step is shared out over processes.
        if train.is_first():
            print(f"trained; {again} measures it, on one process")
        return
    # By `evaluate` it may have been measured in more ways than here.
    done = evaluate and _is_evaluated(folder)
    where = "before it was evaluated"
    with Interrupts(again, where=where) as interrupts:
        if evaluate and not done:
            poll = functools.partial(interrupts.poll, where)
            result = evaluation.evaluate_run(
                folder,
                skip=evaluation.LONG,
                train_images=evaluation.AFTER_TRAINING,
                say=_quiet,
                poll=poll,
            )
        page = pages.write([folder], folder / "report.html")
    print(f"page: {page}")
    if done:
        print(f"its last step is evaluated already; {again} measures it anew")
    if result is not None:
        print(f"\n{summary.table(result)}")
        print(f"\n{len(result['sections'])} more measures are on the page")
        more = ", ".join(name for name in evaluation.LONG if name in result["skipped"])
        if more:
            print(f"{again} adds what the data allow of {more}")


def _is_evaluated(folder: pathlib.Path) -> bool:
    """Whether the last step of a run that is done has been measured."""
    from rl_jax.run import recipe

    steps = recipe.read(folder / "run.json")[0].steps
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return files.read_json(folder / "evaluation.json")["step"] == steps
    return False


def _quiet(line: str) -> None:
    """Prints what is no step of the evaluation."""
    if not line.startswith(" "):
        print(line)


def resume(argv: Sequence[str]) -> None:
    """Continues a run, then evaluates it and writes its page."""
    from rl_jax.data import IN_THREADS, Loading

    def command(
        run: Run,
        steps: int | None = None,
        stall_timeout: float = TIMEOUT,
        evaluate: bool = True,
        allow_changes: bool = False,
        workers: int = IN_THREADS.workers,
        threads: int | None = IN_THREADS.threads,
        data_timeout: float = IN_THREADS.timeout,
        distributed: bool = False,
        imports: Imports = (),
    ) -> None:
        """Continues a run from its newest sound checkpoint.

        Bit for bit on as many devices as before; on others sums round differently.

        Args:
          run: folder of the run.
          steps: of the whole run from now on, to train it for longer; schedules that
            ended with it are stretched, so that the learning rate rises once more.
          stall_timeout: seconds without a step after which the run ends, as in
            `pretrain`.
          evaluate: evaluate when trained.
          allow_changes: go on although run.json was edited since the checkpoint, or own
            code was.
          workers: processes that decode, as in `pretrain`; may be others than before.
          threads: decoding threads in each of them.
          data_timeout: seconds without a batch after which the run ends.
          distributed: with the other processes of a job, as `pretrain` does.
        """
        from rl_jax import train
        from rl_jax.run import pretrain

        enable_compilation_cache()
        _import(imports)
        if distributed:
            train.join()
        how = {"steps": steps, "stall_timeout": stall_timeout}
        how |= {"loading": Loading(workers, threads, data_timeout)}
        pretrain.resume(run, allow_changes=allow_changes, **how)
        finish(run, evaluate=evaluate)

    _with_own_code("resume", command, argv)


def evaluate(argv: Sequence[str]) -> None:
    """Evaluates runs, or features of any framework."""

    def command(
        runs: Annotated[tuple[pathlib.Path, ...], tyro.conf.Positional] = (),
        features: tuple[pathlib.Path, ...] = (),
        output: pathlib.Path | None = None,
        labels: tuple[str, ...] = ("1", "10"),
        train_images: int | None = None,
        skip: tuple[str, ...] = (),
        imports: Imports = (),
    ) -> None:
        """Measures the newest checkpoint of runs, or features, and writes a page.

        Probes, k-NN, layers, CKA, geometry, calibration, conformal sets, corruptions,
        attacks and more, each with its uncertainty, beside the baselines. Several are
        compared, each two on the examples that both have scored.

        Args:
          runs: folders of runs.
          features: .npz files with representations [n, D] under any names, and where
            known `label` [n], `split` [n] (0 to learn from, 1 to score), `index` [n]
            (numbers by which examples are those of runs or other files), `factors`
            [n, F].
          output: where the page goes. Default: report.html in the first folder; that
            of features is the file's name with .eval for .npz.
          labels: that the table's probes learn from, beside all of them: numbers per
            class, and parts of the labels as 1% or 10%, of each class at least one.
          train_images: the most examples of a run that its probes learn from, of each
            class its part; where nothing is held out, a quarter as many are scored. By
            default all.
          skip: sections not to measure; those that an earlier evaluation of the same
            weights has stay: probes, differences, layers, factors, geometry,
            alignment, similarity, cka, drift, collapse, guarantee, calibration, sets,
            corruptions, attacks.
        """
        _import(imports)
        _evaluate(runs, features, output, labels, train_images, skip, imports)

    _with_own_code("evaluate", command, argv)


def _evaluate(runs, features, output, labels, train_images, skip, imports) -> None:
    from rl_jax import report as pages
    from rl_jax.evaluate import arguments
    from rl_jax.run import check, compare, evaluation, summary, trained
    from rl_jax.run.features import evaluate_features, read_features
    from rl_jax.run.signals import Interrupts
    from rl_jax.run.split import shares_of

    if not runs and not features:
        raise UsageError(
            "evaluate: name the folder of at least one run, or --features FILE.npz"
        )
    evaluation.checked_sections(skip)
    if train_images is not None:
        arguments.counts("evaluate", train_images=train_images)
        if not runs:
            raise UsageError("evaluate: --train-images is of runs, and there is none")
    asked = {"skip": skip, "shares": shares_of(labels)}
    if output is not None:
        check.output_file("--output", output)
    own.require(*runs)
    for run in runs:
        trained.check_trained(run)
    enable_compilation_cache()
    for path in features:
        read_features(path)
        if path.with_suffix(".eval").is_file():
            raise UsageError(
                f"evaluate: {path.with_suffix('.eval')} is a file, where a folder for "
                f"the results of {path} should be; move it away"
            )
    if len({path.with_suffix("") for path in features}) < len(features):
        raise UsageError("evaluate: two files of features have one name; rename one")
    again = _again(runs, features, output, labels, train_images, skip, imports)
    folders, results = [], []
    where = "before all was evaluated"
    with Interrupts(again, where=where) as interrupts:
        poll = functools.partial(interrupts.poll, where)
        for run in runs:
            found = evaluation.evaluate_run(
                run, **asked, train_images=train_images, poll=poll
            )
            results.append(found)
            folders.append(run)
        for path in features:
            folder = path.with_suffix(".eval")
            results.append(evaluate_features(path, folder, **asked, poll=poll))
            folders.append(folder)
        page = pages.write(folders, output or folders[0] / "report.html")
    for folder, result in zip(folders, results, strict=True):
        print(f"\n{folder}\n" if len(folders) > 1 else "")
        print(f"{summary.table(result)}\n\n{summary.sections(result)}")
    if len(folders) > 1:
        found = compare.compare(folders, [str(folder) for folder in folders])
        print("\nDifferences")
        print("\n".join(f"  {line}" for line in [*found["lines"], *found["notes"]]))
    print(f"\npage: {page}")


def _again(runs, features, output, labels, train_images, skip, imports) -> str:
    """The command that was given."""
    flags = {"--features": features, "--output": (output,) if output else ()}
    flags |= {"--train-images": (train_images,) if train_images else ()}
    words = ["rl-jax", "evaluate", *runs]
    flags |= {"--labels": labels if labels != ("1", "10") else (), "--skip": skip}
    for flag, values in flags.items():
        words += [flag, *values] if values else []
    return shlex.join([*map(str, words), *own.flags(imports)])


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
        size: int | None = None,
        heads: int | None = None,
        overwrite: bool = False,
        imports: Imports = (),
    ) -> None:
        """Writes the representations of images by a run's newest checkpoint.

        Args:
          run: folder of the run; or a file of safetensors with an encoder of timm or
            torchvision, for images standardised as on ImageNet.
          data: digits, a folder of images, tar shards, a dataset of Hugging Face, an
            .npz or .npy file, or MODULE:FUNCTION of your own.
          output: the .npz file; holds an array [n, D] for each representation
            (h, z, ..., and layer1, layer2, ... of the encoder, each the mean over
            positions; text, where a run that learned from captions finds some), and
            `label`, -1 where unknown.
          size: side of the images that an encoder from a file sees; by default its own,
            or 224. A run has its own.
          heads: of a transformer from a file, where they are not those of its width:
            12 of MoCo v3's ViT-S.
          overwrite: replace an output that is there.
        """
        from rl_jax.run import embed as embedding
        from rl_jax.run import torch_file

        enable_compilation_cache()
        _import(imports)
        if torch_file.is_file(run):
            own_sizes = {"size": size, "heads": heads, "overwrite": overwrite}
            print(embedding.embed_by_file(run, data, output, **own_sizes))
            return
        for name, value in (("size", size), ("heads", heads)):
            if value is not None:
                raise UsageError(
                    f"embed: --{name} is of encoders from a file; the encoder of {run} "
                    "is as it was trained: leave it out"
                )
        print(embedding.embed(run, data, output, overwrite=overwrite))

    _with_own_code("embed", command, argv)


def export(argv: Sequence[str]) -> None:
    """Writes the encoder of a run for other programs."""

    def command(
        run: Run,
        output: pathlib.Path | None = None,
        overwrite: bool = False,
        imports: Imports = (),
    ) -> None:
        """Writes the encoder of a run's newest checkpoint, and compares what it wrote.

        The folder gets model.safetensors, encode.stablehlo, and export.json, which
        says what is in them and how they are read.

        Args:
          run: folder of the run.
          output: the folder to write; by default `export` in the run's folder.
          overwrite: replace an export that another folder has; in the run's own it is.
        """
        from rl_jax.run.export import export as write

        enable_compilation_cache()
        _import(imports)
        print(write(run, output, overwrite=overwrite))

    _with_own_code("export", command, argv)
