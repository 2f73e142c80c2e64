"""Runs experiments in the order of the text, prints, and writes what was found."""

import argparse
import importlib
import multiprocessing
import os
import pathlib
import signal
import sys
import time
import typing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, NoReturn

from experiments import atlas, catalogue, figure, record, terminal
from rl_jax.errors import UsageError

PROG = "rl-jax experiments"
OUT = pathlib.Path("runs") / "experiments"
MOST_JOBS = 4
"""Beyond, the longest experiment is what is waited for."""
QUICKLY_COMPILED = "--xla_backend_optimization_level=1"
"""On a CPU most of the time of most experiments is that of compiling them."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"experiments: {message}; see {PROG} --help")


def main(argv: Sequence[str]) -> None:
    """Runs all or those named; exits with 1 where one fails or raises.

    Raises:
      UsageError: unknown names, flags that do not parse.
    """
    names, flags, chosen = parse(argv)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a terminal may lack ✓
    if chosen.help and not names:
        print(usage())
    elif chosen.list or chosen.quick_help:
        show = terminal.listed if chosen.list else terminal.explained
        print(show([catalogue.read(name) for name in catalogue.find(names)]))
    else:
        asked = catalogue.find(names)
        settings = {}
        if flags or chosen.help:
            settings = _settings(asked, [*flags, *["--help"] * chosen.help])
        records = run(
            asked,
            settings,
            out=chosen.out,
            figures=chosen.figures,
            jobs=jobs_for(len(asked), chosen.jobs),
        )
        if not all(found.passed for found in records):
            sys.exit(1)


def parse(argv: Sequence[str]) -> tuple[list[str], list[str], argparse.Namespace]:
    """The names, the flags of an experiment, and the flags of the command."""
    parser = _Parser(prog=PROG, add_help=False, allow_abbrev=False)
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--quick-help", action="store_true")
    parser.add_argument("--out", type=pathlib.Path, default=OUT)
    parser.add_argument("--figures", type=pathlib.Path)
    parser.add_argument("--jobs", type=int)
    chosen, rest = parser.parse_known_args(list(argv))
    first = next((k for k, a in enumerate(rest) if a.startswith("-")), len(rest))
    return rest[:first], rest[first:], chosen


def usage() -> str:
    """The text of `rl-jax experiments --help`."""
    return "\n".join(
        [
            f"usage: {PROG} [NAME ...] [--out DIR] [--figures DIR] [--jobs N]",
            f"       {PROG} NAME [OPTIONS OF THAT EXPERIMENT]",
            "",
            "Computes the claims of the text and checks each against a closed form or "
            "a reference.",
            "",
            "  --out DIR      where results.json and atlas.html go; default "
            f"{OUT.as_posix()}",
            "  --figures DIR  writes each figure as DIR/NAME.svg too",
            "  --jobs N       experiments at a time, each in a process; default: one "
            "for each",
            f"                 core, at most {MOST_JOBS}, and one where there is an "
            "accelerator",
            "  --list         names, sections and titles",
            "  --quick-help   what those named (or all) claim, and their options",
            "",
            f"  {PROG} NAME --help    every option of an experiment",
            "",
            "Exit codes: 0 all hold, 1 one fails or raises, 2 usage.",
        ]
    )


def jobs_for(count: int, asked: int | None) -> int:
    """How many experiments run at a time.

    Raises:
      UsageError: where fewer than one is asked for.
    """
    if asked is not None and asked < 1:
        raise UsageError(f"experiments: --jobs must be at least 1, got {asked}")
    if count == 1:
        return 1
    if asked is None:
        import jax

        alone = jax.default_backend() != "cpu"
        asked = 1 if alone else min(os.cpu_count() or 1, MOST_JOBS)
    return min(asked, count)


def run(
    names: Sequence[str],
    settings: dict[str, Any],
    *,
    out: pathlib.Path,
    figures: pathlib.Path | None = None,
    jobs: int = 1,
) -> list[record.Record]:
    """Runs experiments; after each one the file of results is complete so far.

    Args:
      names: of experiments, in the order in which they are printed.
      settings: arguments of the one there is; {} for several.
      out: folder of `results.json` and `atlas.html`.
      figures: folder of the figures as files; None writes none.
      jobs: how many run at a time; 1: in this process.
    """
    began = time.perf_counter()
    where = record.environment()
    records = []
    with terminal.Progress(len(names)) as progress:
        for found in _found(names, settings, jobs, progress):
            records.append(found)
            progress.done(found)
            document = record.document(records, names, where)
            record.write(document, out / "results.json")
            if figures is not None and found.figure:
                text = figure.alone(found.figure)
                record.replace(figures / f"{found.entry.name}.svg", text)
    page = out / "atlas.html"
    record.replace(page, atlas.page(records, where))
    seconds = time.perf_counter() - began
    print(terminal.summary(records, seconds))
    print(f"page: {page}")
    return records


def _found(
    names: Sequence[str],
    settings: dict[str, Any],
    jobs: int,
    progress: terminal.Progress,
) -> Iterator[record.Record]:
    """The records in the order of the names."""
    from rl_jax.cli.cache import enable_compilation_cache

    if jobs == 1:
        enable_compilation_cache()
        for name in names:
            progress.start(name)
            yield record.experiment(name, settings)
        return
    import jax

    # Forked from a process in which XLA has threads, a child would hang.
    context = multiprocessing.get_context("spawn")
    flags = (QUICKLY_COMPILED,) if jax.default_backend() == "cpu" else ()
    with ProcessPoolExecutor(jobs, context, _prepare, (flags,)) as pool:
        try:
            futures = [pool.submit(record.experiment, name, settings) for name in names]
            for name, future in zip(names, futures, strict=True):
                progress.start(name)
                try:
                    yield future.result()
                except BrokenProcessPool:
                    yield record.lost(name, settings)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():
                child.kill()
            raise


def _prepare(flags: Sequence[str]) -> None:
    """What a process does before its first experiment, for which XLA reads flags."""
    from rl_jax.cli.cache import enable_compilation_cache

    # The last of equal flags counts: one of the user's goes before ours.
    os.environ["XLA_FLAGS"] = " ".join([*flags, os.environ.get("XLA_FLAGS", "")])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process answers it
    enable_compilation_cache()


def _settings(names: Sequence[str], flags: Sequence[str]) -> dict[str, Any]:
    """Arguments of the experiment that flags are given for."""
    if len(names) != 1:
        raise UsageError(
            f"experiments: {flags[0]} is no option of the command; those of an "
            f"experiment come after its name, and it runs alone; see {PROG} --help"
        )
    return parsed(names[0], flags)


def parsed(name: str, flags: Sequence[str]) -> dict[str, Any]:
    """Every argument of an experiment's `run`, by flags made from its signature.

    Raises:
      UsageError: flags that do not parse, a file that cannot be imported.
    """
    from rl_jax.cli import options

    try:
        module = importlib.import_module(f"experiments.{name}")
    except Exception as raised:
        raise UsageError(
            f"experiments: {name} cannot be imported: {record.one_line(raised, None)}"
        ) from None
    kinds = typing.get_type_hints(module.run)
    parameters = {k: (kinds[k], v) for k, v in record.defaults(module).items()}

    def command(**given):
        return given

    entry = catalogue.read(name)
    command.__doc__ = options.one_name_each(f"{entry.claim}\n\n{entry.help}")
    command = options.signature(command, parameters)
    return options.parse(command, prog=f"{PROG} {name}", argv=flags)
