"""Single functions and classes out of the authors' own files.

Such a file is a program: importing it asks for GPUs, data and old packages. So it is
read, and only the definitions named are run. `RL_JAX_AUTHORS` is the folder in which
the repositories lie, each under its own name.
"""

import __future__

import ast
import functools
import math
import os
import pathlib
import types
import typing

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn, optim


class Alone(nn.Module):
    """What `UnivariateTest` of LeJEPA's authors is to its own: one of one process."""

    world_size = 1


@functools.cache
def take(file: str, *names: str) -> types.SimpleNamespace:
    """The definitions of these names, from `REPOSITORY/PATH` below the folder.

    What they call of PyTorch, NumPy and each other is there, and nothing else.

    Raises:
      LookupError: for a name that the file does not define.
    """
    path = pathlib.Path(os.environ["RL_JAX_AUTHORS"]) / file
    tree = ast.parse(path.read_text())
    defined = [n for n in tree.body if getattr(n, "name", None) in names]
    if len(defined) != len(names):
        raise LookupError(f"{file} does not define all of {', '.join(names)}")
    # NumPy had a `float` when these were written.
    numpy = types.SimpleNamespace(**vars(np) | {"float": float})
    space = {
        "torch": torch, "nn": nn, "F": F, "optim": optim, "dist": dist, "np": numpy,
        "math": math, "required": object(), "Optimizer": optim.Optimizer,
        # What they call to speak to other processes, of which there are none.
        "gather": lambda x: x, "all_gather": lambda x: [x], "all_reduce": lambda x: x,
        "get_rank": lambda: 0, "get_world_size": lambda: 1, "UnivariateTest": Alone,
        "BaseMethod": nn.Module,
    }  # fmt: skip
    space |= {"List": typing.List, "Optional": typing.Optional}  # noqa: UP006
    # Annotations name types of packages that are not here.
    lazy = __future__.annotations.compiler_flag
    exec(compile(ast.Module(defined, []), str(path), "exec", lazy), space)
    return types.SimpleNamespace(space=space, **{name: space[name] for name in names})


def bare(cls, **parts):
    """A module of that class, whose `__init__` is left out, with these parts."""
    module = cls.__new__(cls)
    nn.Module.__init__(module)
    for name, part in parts.items():
        setattr(module, name, part)
    return module
