"""Sections that an earlier evaluation of the same weights has measured, kept."""

import hashlib
import json
import pathlib
from collections.abc import Iterable
from typing import Any

from rl_jax import __version__, files
from rl_jax.run.measures import SECTIONS


def origin(what: Any) -> str:
    """A digest of what sections are measured from, and of the version that measures.

    Args:
      what: JSON, as the digests of weights and of data.
    """
    text = json.dumps([__version__, what], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def with_earlier(
    folder: pathlib.Path, result: dict[str, Any], *, skip: Iterable[str]
) -> dict[str, Any]:
    """The record with the skipped sections that the one in the folder has.

    Args:
      folder: where an earlier `evaluation.json` may be.
      result: the new record, with `sections` and `origin`; one of another origin, or
        of none, lends nothing.
      skip: sections that were not measured now.

    Returns:
      The record, its sections in their order; `skipped` are those neither evaluation
      went through.
    """
    skip = set(skip)
    before = _read(folder / "evaluation.json")
    found = dict(result["sections"])
    if before.get("origin") == result["origin"]:
        known = before["sections"]
        found |= {name: known[name] for name in skip if name in known}
        skip &= before["skipped"]
    sections = {name: found[name] for name in SECTIONS if name in found}
    return result | {"sections": sections, "skipped": sorted(skip)}


def _read(path: pathlib.Path) -> dict[str, Any]:
    """What the earlier record has to lend; {} where there is none that can be read."""
    try:
        content = files.read_json(path)
        return {
            "origin": content["origin"],
            "sections": dict(content["sections"]),
            "skipped": set(content["skipped"]),
        }
    except (OSError, ValueError, LookupError, TypeError):
        return {}
