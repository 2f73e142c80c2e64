"""Whether the data of a run is still what it was when the run started."""

from collections.abc import Mapping
from typing import Any

from rl_jax.data.source import Source


def fingerprint(source: Source) -> dict[str, Any]:
    """What `run.json` keeps of a data set; nothing is decoded for it.

    Args:
      source: any source; where its files lie does not enter.

    Returns:
      `{"images", "shape", "digest", "held_out"}`: the number of images, [H, W, C],
      `source.digest()`, and the fingerprint of the held-out part or None.
    """
    held_out = source.held_out
    return {
        "images": source.size,
        "shape": list(source.image_shape),
        "digest": source.digest(),
        "held_out": None if held_out is None else fingerprint(held_out),
    }


def difference(
    before: Mapping[str, Any], now: Mapping[str, Any], *, held_out: bool = False
) -> str | None:
    """In a few words how two fingerprints differ, or None.

    Args:
      before, now: of `fingerprint`.
      held_out: whether a difference of the held-out part counts.
    """
    if before["images"] != now["images"]:
        return f"{before['images']:,} images then, {now['images']:,} now"
    if list(before["shape"]) != list(now["shape"]):
        one, two = ("x".join(map(str, each["shape"])) for each in (before, now))
        return f"images of {one} then, of {two} now"
    if before["digest"] != now["digest"]:
        return "as many images as before, but other files, content or labels"
    parts = before["held_out"], now["held_out"]
    if not held_out or parts == (None, None):
        return None
    if None in parts:
        return f"{'no' if parts[0] is None else 'a'} held-out part then, not so now"
    words = difference(*parts)
    return words and f"held-out part: {words}"
