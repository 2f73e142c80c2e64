"""What a run and its representations are called on the page."""

import math
import pathlib

from rl_jax.report.markup import Markup, command, escape, number, percent, tag
from rl_jax.report.read import Entry, Evaluation, Record, Score
from rl_jax.report.sections import Interval

BASELINES = {"raw": "raw pixels", "random": "untrained h"}
COLOURS = {
    **{"h": "c0", "z": "c1", "target_h": "c2", "online_h": "c2"},
    **{"raw": "base", "random": "base2"},
}
_METHODS = {
    "barlow_twins": "Barlow Twins",
    "bert": "BERT",
    "byol": "BYOL",
    "clip": "CLIP",
    "cpc": "CPC",
    "dino": "DINO",
    "dino_v2": "DINOv2",
    "i_jepa": "I-JEPA",
    "ibot": "iBOT",
    "info_nce": "InfoNCE",
    "ivae": "iVAE",
    "lejepa": "LeJEPA",
    "mae": "MAE",
    "moco": "MoCo",
    "moco_v3": "MoCo v3",
    "nnclr": "NNCLR",
    "siglip": "SigLIP",
    "simclr": "SimCLR",
    "simcse": "SimCSE",
    "simmim": "SimMIM",
    "simsiam": "SimSiam",
    "sup_con": "SupCon",
    "swav": "SwAV",
    "vae": "VAE",
    "vib": "VIB",
    "vicreg": "VICReg",
}


def title(run: Record) -> str:
    """Method and data in words; of features, their file."""
    if run.features:
        return f"Features of {pathlib.PurePath(run.features.file).name}"
    return f"{method(run)} on {data(run)}"


def evaluate(run: Record) -> Markup:
    """The command that evaluates it."""
    if run.features:
        return command("evaluate", "--features", run.features.file)
    return command("evaluate", run.folder)


def method(run: Record) -> str:
    """The method's name as papers write it."""
    name = factory(run, "method")
    return _METHODS.get(name, name)


def data(run: Record) -> str:
    """The data set's name: of files, the last part of the path."""
    spec = run.recipe.get("data")
    arguments = spec.get("arguments") if isinstance(spec, dict) else None
    path = arguments.get("path") if isinstance(arguments, dict) else None
    if isinstance(path, str) and path.strip("/"):
        return path.rstrip("/").split("/")[-1]
    return factory(run, "data")


def factory(run: Record, part: str) -> str:
    """The factory of a part of the recipe."""
    spec = run.recipe.get(part)
    return str(spec.get("factory", "?")) if isinstance(spec, dict) else "?"


def headline_share(first: Evaluation, *others: Evaluation) -> str:
    """10 labels per class where all have it, else the most that all have; "": none."""
    common = [s for s in first.shares if all(s in each.shares for each in others)]
    return "10" if "10" in common else common[-1] if common else ""


def find(evaluation: Evaluation, name: str) -> Entry | None:
    """The line of a representation."""
    return next((e for e in evaluation.table if e.representation == name), None)


def labels(share: str) -> str:
    """A number of labels per class, or a part of them, in words."""
    if share == "all":
        return "all labels"
    if share.endswith("%"):
        return f"{share.removesuffix('%')} % of the labels"
    return f"{share} label{'' if share == '1' else 's'} per class"


def short(entry: Entry) -> str:
    """A representation's name for figures."""
    return representation(entry.representation)


def whose(network: str) -> str:
    """The network that is evaluated, where it is not the one that is trained."""
    return "" if network == "online" else f" of the {network} network"


def representation(name: str) -> str:
    """A representation in words."""
    return BASELINES.get(name, name.replace("_", " "))


def kind(measure: str) -> str:
    """A classifier in words."""
    known = {"probe": "linear probe", "knn": "k-NN", "classifier": "own classifier"}
    return known.get(measure, measure)


def told(value: Interval, *, unit: str = "") -> str:
    """A number with its interval: 93.1 % (92.0 to 94.2)."""
    middle, *ends = (_shown(v, unit) for v in value)
    middle += f" {unit}" if unit and value.value is not None else ""
    return middle if None in value[1:] else f"{middle} ({' to '.join(ends)})"


def interval(value: Interval, *, unit: str = "") -> Markup:
    """A number, and under it its interval in small, for a table; shares as percent."""
    middle, *ends = (_shown(v, unit) for v in value)
    small = None if None in value[1:] else tag("small.line", " to ".join(ends))
    return escape([middle, small])


def _shown(value: float | None, unit: str) -> str:
    if unit == "%":
        return percent(value)
    return number(value, 2 if value is not None and abs(value) < 0.1 else 3)


def score(value: Score | None, *, unit: str = "") -> Markup:
    """A mean in per cent, and its spread in small."""
    if value is None or value.mean is None:
        return Markup("–")
    spread = f" ± {percent(value.std)}" if value.std is not None else ""
    return escape(
        [percent(value.mean), tag("small", spread + unit) if spread or unit else None]
    )


def sampling(accuracy: float, images: int) -> tuple[float, float]:
    """The ends of the 95 % interval of an accuracy measured on `images` images.

    `evaluate.wilson_interval`, whose package takes seconds to import jax.
    """
    n, z = max(images, 1), 1.959964
    spread = max(accuracy * (1 - accuracy), 0) / n
    middle = accuracy + z**2 / (2 * n)
    half = z * math.sqrt(spread + z**2 / (4 * n**2))
    low, high = ((middle + side * half) / (1 + z**2 / n) for side in (-1, 1))
    return max(low, 0.0), min(high, 1.0)
