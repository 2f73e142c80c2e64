"""One self-contained HTML page about a run, or about several side by side."""

from rl_jax.report.page import write

__all__ = ["write"]
