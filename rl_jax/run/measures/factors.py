"""Whether representations hold the factors the data was made from."""

from typing import Any

import numpy as np

from rl_jax import evaluate
from rl_jax.errors import UsageError
from rl_jax.run.measures.section import Section, interval, number, shown
from rl_jax.run.measures.study import Study, spread

WIDEST = 64
"""Dimensions of a code whose single dimensions are looked at."""
_ROWS = 5000
_BINS = 10
"""Of equal mass, for the FactorVAE score of factors that take many values."""
_MEANING = {
    "r2": "R² of ridge regression on the whole representation",
    "mcc": "mean correlation coefficient; 1: the factors up to order and scale",
    "mig": "mutual information gap",
    "dci_disentanglement": "DCI disentanglement",
    "dci_completeness": "DCI completeness",
    "dci_informativeness": "DCI informativeness",
    "sap": "separated attribute predictability",
    "factor_vae": "FactorVAE score",
}


def factors(study: Study) -> Section:
    """Linear R² of each factor, and scores of single dimensions of small codes."""
    assert study.factors is not None
    names = list(study.factor_names) or [
        f"factor {i + 1}" for i in range(study.factors.fit.shape[1])
    ]
    fit, scored = study.factors
    varies = (np.ptp(fit, axis=0) > 0) & (np.ptp(scored, axis=0) > 0)
    if not varies.any():
        raise UsageError("no factor varies in both parts")
    fit, scored = fit[:, varies], scored[:, varies]
    names = [name for name, v in zip(names, varies, strict=True) if v]
    rows, by_factor, problems = [], {"factors": names, "h": []}, []
    few = spread(len(scored), _ROWS)
    for name, pair in study.representations.items():
        found = evaluate.ridge_r2(pair.fit, fit, pair.scored, scored)
        if name == study.headline:
            by_factor["h"] = np.asarray(found.r2, float).tolist()

        def explained(x, s, train_x=pair.fit):
            return evaluate.ridge_r2(train_x, fit, x, s).mean

        scores: dict[str, Any] = {"r2": _number(explained, pair.scored, scored)}
        if pair.scored.shape[1] <= WIDEST:
            made, failed = _of_dimensions(pair.scored[few], scored[few])
            scores |= made
            problems += [f"{name}: {line}" for line in failed]
        rows.append({"name": name, "dim": pair.fit.shape[1], "scores": scores})
    lines = [
        f"{text}: "
        + ", ".join(
            f"{study.titles[row['name']]} {shown(row['scores'][key])}"
            for row in rows
            if key in row["scores"]
        )
        for key, text in _MEANING.items()
        if any(key in row["scores"] for row in rows)
    ]
    return Section(
        "Known factors", [*lines, *problems], {"rows": rows, "r2": by_factor}
    )


def _of_dimensions(z: np.ndarray, s: np.ndarray) -> tuple[dict, list[str]]:
    """The scores that can be had, and a line for each that cannot."""
    found, failed = {}, []

    def dci(z, s):
        return evaluate.dci(z, s)[:3]

    smooth = {
        "mcc": evaluate.mean_correlation,
        "mig": evaluate.mutual_information_gap,
        "sap": evaluate.separated_predictability,
    }
    others = (
        (("dci_disentanglement", "dci_completeness", "dci_informativeness"), dci),
        (("factor_vae",), lambda z, s: evaluate.factor_vae_score(z, _coarse(s))),
    )
    for name, measure in smooth.items():
        try:
            found[name] = _number(measure, z, s)
        except UsageError as error:
            failed.append(f"not measured: {error}")
    for names, measure in others:
        try:
            values = np.atleast_1d(measure(z, s))
        except UsageError as error:
            failed.append(f"not measured: {error}")
            continue
        found |= {n: number(float(v)) for n, v in zip(names, values, strict=True)}
    return found, failed


def _number(measure, z: np.ndarray, s: np.ndarray) -> dict:
    """A score with the interval that leaving out fifths of the examples gives it."""
    if len(z) < 50:
        return number(float(measure(z, s)))
    return interval(evaluate.jackknife(measure, z, s, groups=5))


def _coarse(s: np.ndarray) -> np.ndarray:
    """Integers: values as they are where few, else bins of equally many examples."""
    columns = []
    for column in s.T:
        values, place = np.unique(column, return_inverse=True)
        if len(values) > _BINS:
            rank = np.argsort(np.argsort(column, kind="stable"), kind="stable")
            place = rank * _BINS // len(column)
        columns.append(place)
    return np.stack(columns, 1)
