"""`python -m experiments`, which is what `rl-jax experiments` runs."""

import sys

from experiments import runner
from rl_jax import cli

if __name__ == "__main__":
    cli.guarded(runner.main, sys.argv[1:])
