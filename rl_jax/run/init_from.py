"""Whose weights the encoder of a run starts with, as its recipe says."""

from typing import Any, NamedTuple


class InitFrom(NamedTuple):
    """Another run or a file, and which weights of it.

    Attributes:
      run: folder of the run that trained them, or file of an encoder of PyTorch.
      step: of its checkpoint; None: of the newest sound one, until the run starts, or
        of a file.
      digest: of the weights; None likewise.
    """

    run: str
    step: int | None = None
    digest: str | None = None


def parsed(fields: dict[str, Any] | None) -> InitFrom | None:
    """Of its JSON; None where the weights are random, as in runs of before.

    Raises:
      ValueError: where it says anything else.
    """
    if fields is None:
        return None
    found = InitFrom(**fields)
    for name, kind in (("run", str), ("step", int), ("digest", str)):
        value = getattr(found, name)
        if type(value) is not kind and (name == "run" or value is not None):
            raise ValueError(f"init_from.{name} is {value!r}, expected {kind.__name__}")
    return found
