"""What methods take from a batch."""

import chex

from rl_jax.errors import UsageError
from rl_jax.types import Batch


def require(factory: str, batch: Batch, *names: str) -> None:
    """Refuses a batch without one of the entries a method needs.

    Raises:
      UsageError: naming what is missing and what there is.
    """
    for name in names:
        if name not in batch:
            raise UsageError(
                f"{factory}: the batch must have `{name}`, got {sorted(batch)}; use "
                "data, or an augmentation, that gives it"
            )


def one_view(batch: Batch) -> chex.Array:
    """The first of the views, or the clean image where the batch has no views."""
    return batch["views"][:, 0] if "views" in batch else batch["image"]
