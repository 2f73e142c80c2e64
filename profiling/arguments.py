"""Command lines of the benchmarks: common flags, and errors of one line."""

import argparse
import os
import pathlib
import sys
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """A parser with `--out`, whose errors are one line and exit code 2."""

    def __init__(self, name: str, description: str):
        super().__init__(prog=f"profiling.{name}", description=description)
        self.add_argument(
            "--out",
            type=pathlib.Path,
            metavar="DIR",
            help="folder of the results; default profiling/results/DEVICE",
        )

    def error(self, message: str) -> NoReturn:
        """Prints one line on stderr and exits with 2."""
        print(f"{self.prog}: {message} (see --help)", file=sys.stderr)
        sys.exit(2)

    def add_quick(self) -> None:
        """Adds `--quick`."""
        self.add_argument(
            "--quick", action="store_true", help="small sizes, a minute or two"
        )

    def add_torch(self) -> None:
        """Adds `--torch-python`."""
        self.add_argument(
            "--torch-python",
            default=os.environ.get("RL_JAX_TORCH_PYTHON") or None,
            metavar="PYTHON",
            help="interpreter that has PyTorch; default $RL_JAX_TORCH_PYTHON",
        )

    def add_sizes(self, flag: str, help: str) -> None:
        """Adds a flag that takes several positive numbers."""
        self.add_argument(flag, type=positive, nargs="+", metavar="K", help=help)


def positive(text: str) -> int:
    """A whole number of at least 1."""
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number >= 1, got {text!r}")
    return number
