"""Closed forms and small solvers: what the methods are checked against."""

__all__ = []
