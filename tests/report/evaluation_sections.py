"""Every section of an evaluation as a digits run might have it, made up."""

from typing import Any

import numpy as np

FAMILIES = {
    "noise": ["gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise"],
    "blur": ["defocus_blur", "glass_blur", "motion_blur", "zoom_blur"],
    "weather": ["snow", "frost", "fog", "brightness"],
    "digital": ["contrast", "elastic_transform", "pixelate", "jpeg_compression"],
    "extra": ["gaussian_blur", "spatter", "saturate"],
}
LAYERS = ["stem", "stage1.block1", "stage1.block2", "stage2.block1", "h", "z"]


def interval(value: float, half: float = 0.0) -> dict[str, float | None]:
    """A number as the file holds it; without half a width it is exact."""
    low, high = (value - half, value + half) if half else (None, None)
    return {"value": value, "low": low, "high": high}


def cosines(classes: int, *, spread: float = 0.15) -> list[list[float]]:
    """Of centred class means, near those of a simplex."""
    rng = np.random.default_rng(classes)
    means = np.eye(classes) - 1 / classes
    means = means + spread / np.sqrt(classes) * rng.normal(size=means.shape)
    means -= means.mean(0)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    return (means @ means.T).tolist()


def sections(*, classes: int = 10, shift: float = 0.0) -> dict[str, Any]:
    """All of them.

    Args:
      classes: how many.
      shift: added to accuracies, so that runs differ.
    """
    rng = np.random.default_rng(classes)
    names = [str(c) for c in range(classes)]
    near = 1 - 0.09 * np.abs(np.subtract.outer(np.arange(6), np.arange(6)))
    edges = np.linspace(-1, 1, 41)
    middles = (edges[1:] + edges[:-1]) / 2
    confidence = np.linspace(0.05, 0.95, 10)
    severe = np.linspace(0.03, 0.35, 5)

    def rows(*each):
        return {"rows": list(each)}

    def probe(name, title, ridge, mlp):
        return {
            "representation": name,
            "title": title,
            "dim": 16,
            "ridge": interval(ridge + shift, 0.012),
            "mlp": mlp and interval(mlp + shift, 0.011),
        }

    def difference(a, b, value, half, labels="all"):
        return {
            "a": a,
            "b": b,
            "measure": "probe",
            "labels": labels,
            "difference": value + shift,
            "low": value + shift - half,
            "high": value + shift + half,
            "images": 500,
        }

    def geometry(name, rank, hub):
        return {
            "name": name,
            "measures": {
                "rank_me": interval(rank),
                "effective_rank": interval(0.9 * rank),
                "alpha_req": interval(1.37, 0.04),
                "std": interval(0.71, 0.02),
                "hubness": interval(hub),
                "orphans": interval(0.04),
                "margin": interval(0.52),
                "separation": interval(1.3),
                "fisher": interval(12.4),
            },
        }

    def losses(strength, gain=0.0):
        return {
            name: np.clip(
                0.94 + gain - strength * severe * rng.uniform(0.4, 2.2), 0.1, 1
            ).tolist()
            for family in FAMILIES.values()
            for name in family
        }

    def attack(norm, name, radii, fall):
        accuracy = [max(0.0, 0.95 + shift - fall * r / radii[-1]) for r in radii]
        return {
            "norm": norm,
            "representation": name,
            "radii": radii,
            "accuracy": accuracy,
        }

    def factor(name, mig):
        return {
            "name": name,
            "dim": 16,
            "scores": {
                "mcc": interval(0.61, 0.03),
                "mig": interval(mig),
                "dci_disentanglement": interval(0.42),
                "dci_completeness": interval(0.37),
                "dci_informativeness": interval(0.8),
                "sap": interval(0.08),
                "factor_vae": interval(0.55),
                "r2": interval(0.83, 0.02),
            },
        }

    def covered(kind, coverage, size):
        each = np.clip(coverage + 0.05 * rng.normal(size=classes), 0, 1)
        return {
            "kind": kind,
            "coverage": interval(coverage, 0.006),
            "size": interval(size, 0.04),
            "class_coverage": each.tolist(),
        }

    def layer(name, probe, knn):
        return {
            "name": name,
            "dim": 16,
            "probe": interval(probe + shift, 0.015),
            "knn": interval(knn + shift, 0.016),
        }

    radii = [0.0, 0.01, 0.02, 0.05, 0.1]
    found = {
        "probes": rows(
            probe("h", "simclr h", 0.951, 0.972),
            probe("z", "simclr z", 0.921, 0.943),
            probe("random", "untrained encoder h", 0.894, 0.93),
            probe("raw", "raw pixels", 0.915, None),
        ),
        "layers": rows(
            *(
                layer(name, p, k)
                for name, p, k in zip(
                    LAYERS,
                    (0.90, 0.92, 0.94, 0.95, 0.96, 0.93),
                    (0.93, 0.94, 0.95, 0.96, 0.95, 0.92),
                    strict=True,
                )
            )
        ),
        "differences": rows(
            difference("h", "raw", 0.042, 0.018),
            difference("h", "random", 0.061, 0.02),
            difference("h", "z", 0.008, 0.012),
            difference("h", "raw", 0.063, 0.031, labels="10"),
        ),
        "factors": {
            **rows(factor("h", 0.12), factor("z", 0.09)),
            "r2": {
                "factors": ["shape", "scale", "orientation", "x", "y"],
                "h": [0.91, 0.72, 0.31, 0.97, 0.96],
            },
        },
        "geometry": rows(
            geometry("h", 41.2, 1.3),
            geometry("z", 11.8, 0.9),
            geometry("random", 6.4, 2.9),
            geometry("raw", 22.7, 1.9),
        ),
        "alignment": {
            "points": [
                {
                    "name": name,
                    "alignment": interval(a + shift, 0.02),
                    "uniformity": interval(u, 0.05),
                    "lidar": interval(rank, 1.5),
                }
                for name, a, u, rank in (
                    ("h", 0.21, -2.1, 33.4),
                    ("z", 0.33, -3.2, 12.6),
                    ("random", 0.09, -0.6, 41.3),
                    ("raw", 0.24, -0.8, 27.5),
                )
            ],
            "limit": -3.62,
        },
        "similarity": {
            "edges": edges.tolist(),
            "positive": np.rint(
                800 * np.exp(-(((middles - 0.85) / 0.1) ** 2))
            ).tolist(),
            "negative": np.rint(
                900 * np.exp(-(((middles + 0.02) / 0.3) ** 2))
            ).tolist(),
            "positive_mean": 0.82,
            "negative_mean": -0.01,
            "entropy": 3.1,
            "max_softmax": 0.41,
            "temperature": 0.3,
        },
        "cka": {
            "names": [*LAYERS, "random", "raw"],
            "matrix": np.pad(near, (0, 2), constant_values=0.31).tolist(),
            "rows": 500,
        },
        "drift": {
            "steps": [0, 25, 50, 75, 100],
            "cka": [
                *(interval(v, 0.02) for v in (0.41, 0.77, 0.91, 0.97)),
                interval(1.0),
            ],
            "probe": [interval(v + shift) for v in (0.9, 0.93, 0.95, 0.955, 0.96)],
            "matrix": near[:5, :5].tolist(),
        },
        "collapse": {
            "within": interval(0.72),
            "equinorm": interval(0.11),
            "equiangle": interval(0.17),
            "angle": interval(0.52),
            "duality": interval(0.44),
            "nearest": interval(0.06),
            "cosines": cosines(classes),
            "expected": -1 / (classes - 1),
            "classes": names,
        },
        "guarantee": rows(
            {
                "features": "h, unit length",
                "unsupervised": 0.79,
                "supervised": 0.61,
                "collision": 0.1,
                "bound": interval(0.77, 0.01),
            }
        ),
        "calibration": {
            "reliability": {
                "edges": np.linspace(0, 1, 11).tolist(),
                "confidence": [None, None, *confidence[2:].tolist()],
                "accuracy": [None, None, *(confidence[2:] ** 1.3).tolist()],
                "count": [0, 0, 3, 6, 9, 14, 22, 31, 55, 360],
            },
            "ece": interval(0.031, 0.008),
            "ece_mass": interval(0.028, 0.008),
            "mce": interval(0.14),
            "brier": interval(0.066, 0.009),
            "nll": interval(0.151, 0.03),
            "temperature": interval(1.24),
            "after": {"ece": interval(0.012, 0.006), "nll": interval(0.139, 0.03)},
        },
        "sets": {
            "alpha": 0.1,
            "splits": 100,
            "rows": [
                covered("LAC", 0.902, 0.94),
                covered("APS", 0.911, 1.31),
                covered("LAC per class", 0.907, 1.02),
                covered("APS per class", 0.913, 1.44),
            ],
            "classes": names,
        },
        "corruptions": {
            "families": FAMILIES,
            "severities": [1, 2, 3, 4, 5],
            "accuracy": {
                "h": losses(0.8, shift),
                "random": losses(1.4),
                "raw": losses(1.2),
            },
            "clean": {"h": 0.96 + shift, "random": 0.9, "raw": 0.92},
            "mce": {"h": interval(0.71 - shift, 0.03), "random": interval(1.08, 0.03)},
            "baseline": "raw",
            "images": 500,
        },
        "attacks": {
            **rows(
                attack("linf", "h", radii, 0.9),
                attack("linf", "raw", radii, 0.95),
                attack("l2", "h", [10 * r for r in radii], 0.7),
                attack("l2", "raw", [10 * r for r in radii], 0.9),
            ),
            "masking": ["more steps never helped: 0.31 at 10 steps, 0.29 at 40"],
            "steps": 40,
            "images": 200,
        },
    }
    return {
        name: {
            "title": f"Title of {name}",
            "lines": [f"the first line of {name} [0.91, 0.95]", f"another of {name}"],
            **values,
        }
        for name, values in found.items()
    }


def comparison(count: int = 3) -> dict[str, Any]:
    """What `rl_jax.run.compare` says of some runs."""
    gaps = {(1, 0): (-0.021, 0.011), (2, 0): (0.004, 0.012), (2, 1): (0.025, 0.013)}
    return {
        "runs": [f"run {i}" for i in range(count)],
        "rows": [
            {
                "a": a,
                "b": b,
                "measure": measure,
                "labels": "all",
                "difference": gap,
                "low": gap - half,
                "high": gap + half,
                "images": 500,
            }
            for measure in ("probe", "knn")
            for (a, b), (gap, half) in gaps.items()
            if a < count
        ],
        "cka": np.where(np.eye(count), 1.0, 0.83).tolist(),
        "notes": ["the runs scored the same 500 images"],
    }
