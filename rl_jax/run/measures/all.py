"""Which sections can be measured of a study, in the order in which they are shown."""

import functools
from collections.abc import Callable, Iterable

from rl_jax.errors import UsageError
from rl_jax.run.measures import (
    accuracy,
    calibration,
    collapse,
    comparison,
    factors,
    geometry,
    guarantee,
    robustness,
)
from rl_jax.run.measures.robustness import Images
from rl_jax.run.measures.section import Section
from rl_jax.run.measures.study import Pair, Reading, Study

SECTIONS = {
    "probes": "ridge regression and a hidden layer beside the linear probe",
    "differences": "the headline minus the others, paired bootstrap",
    "layers": "probe and k-NN of each layer",
    "factors": "identifiability and disentanglement, where factors are known",
    "geometry": "rank, decay of the spectrum, spread, hubness, class margins",
    "alignment": "alignment and uniformity of two views, LiDAR of many",
    "similarity": "cosines of positives and negatives",
    "cka": "layers and representations compared",
    "drift": "checkpoints compared",
    "collapse": "neural collapse, NC1 to NC4",
    "guarantee": "the contrastive bound on the mean classifier",
    "calibration": "ECE, MCE, Brier score, NLL, temperature",
    "sets": "conformal sets",
    "corruptions": "corrupted images",
    "attacks": "projected gradient descent",
}
"""What can be left out, by name, in the order it is measured."""


def measure(
    study: Study,
    readings: dict[str, Reading],
    predictions: accuracy.Predictions,
    *,
    images: Images | None = None,
    checkpoints: Callable[[], dict[int, Pair]] | None = None,
    skip: Iterable[str] = (),
    say: Callable[[str], None] = print,
    poll: Callable[[], None] = lambda: None,
) -> dict[str, Section]:
    """Every section that the study allows.

    A section whose numbers cannot be had says why in its only line.

    Args:
      study: what is known.
      readings: the probes of its representations; empty without labels.
      predictions: of `accuracy.table`; empty without labels.
      images: for the sections that need an encoder.
      checkpoints: loads the headline of each checkpoint by step; called if needed.
      skip: names of `SECTIONS` to leave out.
      say: called with the name of each section before it is measured.
      poll: called between sections; may raise to stop.
    """
    made: dict[str, Callable[[], Section] | None] = dict.fromkeys(SECTIONS)
    part = functools.partial
    made["geometry"] = part(geometry.geometry, study)
    if len(study.representations) + len(study.layers) > 1:
        made["cka"] = part(comparison.cka, study)
    if study.views:
        made["alignment"] = part(geometry.alignment, study)
        made["similarity"] = part(geometry.similarity, study)
    if study.factors is not None:
        made["factors"] = part(factors.factors, study)
    if checkpoints is not None:
        made["drift"] = lambda: comparison.drift(checkpoints(), study.labels)
    if readings:
        reading = readings[study.headline]
        truth = reading.rows.scored_labels
        made["probes"] = part(accuracy.probes, study, readings)
        made["differences"] = part(accuracy.differences, study, truth, predictions)
        made["collapse"] = part(collapse.collapse, study, reading)
        made["guarantee"] = part(guarantee.guarantee, study)
        made["calibration"] = part(calibration.calibration, reading)
        made["sets"] = part(calibration.sets, study, reading)
        if study.layers:
            made["layers"] = part(
                comparison.layers, study, truth, predictions, poll=poll
            )
        if images is not None:
            made["corruptions"] = part(robustness.corrupted, images, poll=poll)
            made["attacks"] = part(robustness.attacked, images, poll=poll)
    left_out = set(skip)
    out = {}
    for name, run in made.items():
        if run is None or name in left_out:
            continue
        say(f"  {name}: {SECTIONS[name]}")
        try:
            out[name] = run()
        except UsageError as error:
            out[name] = Section(name.capitalize(), [f"not measured: {error}"], {})
        poll()
    return out
