"""Closed forms and small solvers: what the methods are checked against."""

from rl_jax.theory.simplex import simplex_etf, simplex_gram

__all__ = [
    "simplex_etf",
    "simplex_gram",
]
