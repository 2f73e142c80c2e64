"""What the texts of a run's data say about its images: zero-shot and retrieval."""

from typing import Any

import numpy as np

from rl_jax import data, evaluate
from rl_jax.run.encode import encode
from rl_jax.run.split import Part
from rl_jax.run.trained import Run

MAX_PAIRS = 5000  # the number that retrieval is reported on for Flickr30k and COCO
RANKS = (1, 5)


def with_texts(run: Run, part: Part, z: np.ndarray) -> dict[str, Any]:
    """Zero-shot accuracy and retrieval recall on scored examples.

    Zero-shot where the data has prompts and the scored images labels; retrieval among
    the first 5,000 scored images and their captions, equal captions taken as one.

    Args:
      run: of a method that encodes `text`.
      part: the scored examples.
      z: [n, D], their embeddings as `encode` names them.

    Returns:
      `{"zero_shot": [{"prompts", "templates", "accuracy", "images", "classes"}],
      "retrieval": {"images", "texts", "image_to_text", "text_to_image"}}`; no
      `retrieval` for a single image.
    """
    found: dict[str, Any] = {"zero_shot": _zero_shot(run, part, z)}
    count = min(len(part.index), MAX_PAIRS)
    if count > 1:
        found["retrieval"] = _retrieval(run, part, z[:count])
    return found


def said(found: dict[str, Any]) -> list[str]:
    """The same as a line each of what there is."""
    lines = []
    if found["zero_shot"]:
        first = found["zero_shot"][0]
        scores = [
            f"{row['accuracy']:.3f} with {row['templates']} {row['prompts']}"
            for row in found["zero_shot"]
        ]
        lines.append(
            f"zero-shot accuracy: {', '.join(scores)} ({first['images']:,} images, "
            f"{first['classes']:,} classes)"
        )
    if "retrieval" in found:
        among = found["retrieval"]
        names = "/".join(map(str, RANKS))
        to_text, to_image = (
            "/".join(f"{among[way][str(k)]:.3f}" for k in RANKS)
            for way in ("image_to_text", "text_to_image")
        )
        lines.append(
            f"recall@{names}: {to_text} from image to text, {to_image} from text to "
            f"image ({among['images']:,} images, {among['texts']:,} different texts)"
        )
    return lines


def _zero_shot(run: Run, part: Part, z: np.ndarray) -> list[dict[str, Any]]:
    source, rows = run.parts.source, []
    scored = part.labels >= 0
    kinds = {
        "prompts a class": source.prompts,
        "that no caption has": source.unseen_prompts,
    }
    for name, prompts in kinds.items():
        if prompts is None or len(prompts) < 2 or not scored.any():
            continue
        classes, templates, length = prompts.shape
        u = _embed(run, prompts.reshape(-1, length)).reshape(classes, templates, -1)
        rows.append(
            {
                "prompts": name,
                "templates": templates,
                "accuracy": evaluate.zero_shot_accuracy(
                    z[scored], u, part.labels[scored]
                ),
                "images": int(scored.sum()),
                "classes": classes,
            }
        )
    return rows


def _retrieval(run: Run, part: Part, z: np.ndarray) -> dict[str, Any]:
    tokens = data.rows(part.source, part.index[: len(z)]).fields["tokens"]
    texts, row = np.unique(
        tokens.reshape(-1, tokens.shape[-1]), axis=0, return_inverse=True
    )
    recall = evaluate.retrieval_recall(
        z, _embed(run, texts), row.reshape(len(z), -1), k=RANKS
    )
    shares = {way: {str(k): v for k, v in found.items()}
              for way, found in recall._asdict().items()}  # fmt: skip
    return {"images": len(z), "texts": len(texts)} | shares


def _embed(run: Run, tokens: np.ndarray) -> np.ndarray:
    """[n, L] -> [n, D]."""
    texts = data.records({"tokens": tokens}, vocabulary=run.parts.source.vocabulary)
    return encode(run.parts.method, run.parts.augment, run.state, texts)["text"]
