"""Encoders of PyTorch, in a file of safetensors."""

import functools
import pathlib
from collections.abc import Iterator, Mapping

import jax
import numpy as np
from safetensors import SafetensorError, safe_open

from rl_jax import networks
from rl_jax.errors import UsageError
from rl_jax.networks import TorchWeights
from rl_jax.run import recipe as recipes
from rl_jax.run.recipe import Spec
from rl_jax.types import Params, State

SUFFIX = ".safetensors"
CONVERTED = (
    "python -c 'import sys, torch; from safetensors.torch import save_file; "
    'found = torch.load(sys.argv[1], weights_only=True, map_location="cpu"); '
    'found = next((found[k] for k in ("state_dict", "model", "teacher") if k in found),'
    " found); save_file({k: v.clone().contiguous() for k, v in found.items()}, "
    "sys.argv[2])' IN OUT"
)
"""Weights lie at the top, or under the name that MoCo, MAE or DINO gave them."""


class _Tensors(Mapping[str, np.ndarray]):
    """The arrays of a file, each read when it is asked for."""

    def __init__(self, file):
        self.file, self.names = file, tuple(file.keys())

    def __getitem__(self, name: str) -> np.ndarray:
        return self.file.get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


PICKLED = (".pth", ".pt", ".bin", ".ckpt", ".tar")
"""Of files that PyTorch writes by itself."""
FREE = ("dropout", "drop_path", "dtype", "remat", "split", "zero_init_residual")
"""Arguments of an encoder that say nothing of its weights."""


def is_file(path: pathlib.Path) -> bool:
    """Whether a path means weights and no run: any file, and what would be named so."""
    named = path.suffix in (SUFFIX, *PICKLED)
    return path.is_file() or (named and not path.is_dir())


def read(path: pathlib.Path) -> TorchWeights:
    """The encoder in a file.

    Raises:
      UsageError: for what is no file of safetensors, or has no encoder of ours.
    """
    if not path.is_file():
        raise UsageError(f"{path}: there is no such file")
    if path.suffix not in (SUFFIX, *PICKLED):
        raise UsageError(
            f"{path}: expected the folder of a run, or weights in a file of {SUFFIX}"
        )
    if path.suffix != SUFFIX:
        raise UsageError(
            f"{path}: weights are read from files of {SUFFIX}, which run no code; "
            f"PyTorch makes one of its own: {CONVERTED}"
        )
    try:
        with safe_open(path, framework="np") as file:
            return networks.from_torch(_Tensors(file))
    except (SafetensorError, OSError) as error:
        raise UsageError(f"{path}: not read: {error}") from None
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def encoder(path: pathlib.Path) -> Spec:
    """The encoder in a file, every argument written out.

    Asked for often, and so kept, until the file is another one; the weights are not.

    Raises:
      UsageError: as `read`.
    """
    if not path.is_file():
        return _encoder(path)
    now = path.stat()
    return _encoder(path, now.st_mtime_ns, now.st_size)


@functools.lru_cache(maxsize=8)
def _encoder(path: pathlib.Path, *_) -> Spec:
    found = read(path)
    return recipes.resolve(getattr(networks, found.factory), **found.arguments)


def fitted(found: TorchWeights, params: Params) -> tuple[Params, State]:
    """Its weights for the images that parameters of these shapes are of."""
    mine = dict(found.params)
    if "positions" in mine and "positions" in params:
        grid = params["positions"].shape[:2]
        if mine["positions"].shape[:2] != grid:
            table = networks.resize_positions(mine["positions"], grid)
            mine["positions"] = jax.device_get(table)
    return mine, found.state
