"""Evaluation of frozen features: arrays in, numbers out, from any framework."""

from rl_jax.evaluate.alignment import AlignmentUniformity, alignment_uniformity
from rl_jax.evaluate.alpha_req import alpha_req
from rl_jax.evaluate.attack import Attack, RobustAccuracy, pgd, robust_accuracy
from rl_jax.evaluate.baselines import raw_pixels
from rl_jax.evaluate.calibration import (
    Reliability,
    Temperature,
    brier_score,
    expected_calibration_error,
    fit_temperature,
    maximum_calibration_error,
    negative_log_likelihood,
    reliability,
)
from rl_jax.evaluate.cka import cka_map, linear_cka, minibatch_cka
from rl_jax.evaluate.classes import ClassGeometry, class_geometry
from rl_jax.evaluate.conformal import (
    Coverage,
    PredictionSets,
    aps_sets,
    conformal_quantile,
    lac_sets,
    set_coverage,
)
from rl_jax.evaluate.corruptions import (
    MeanCorruptionError,
    corrupt,
    corrupt_all,
    mean_corruption_error,
)
from rl_jax.evaluate.dci import DCI, dci
from rl_jax.evaluate.disentanglement import mean_correlation
from rl_jax.evaluate.embedding import pca_2d, tsne
from rl_jax.evaluate.factor_vae import factor_vae_score
from rl_jax.evaluate.geometry import (
    collapse_verdict,
    effective_rank,
    normalized_std,
    rank_me,
)
from rl_jax.evaluate.guarantee import (
    Guarantee,
    contrastive_guarantee,
    sampled_guarantee,
)
from rl_jax.evaluate.hubness import Hubness, hubness
from rl_jax.evaluate.intervals import (
    Difference,
    Interval,
    bootstrap_interval,
    paired_difference,
    wilson_interval,
)
from rl_jax.evaluate.jackknife import jackknife
from rl_jax.evaluate.knn import knn, knn_accuracy
from rl_jax.evaluate.labels import fraction_draws, label_draws
from rl_jax.evaluate.lidar import lidar
from rl_jax.evaluate.masking import GradientMasking, gradient_masking
from rl_jax.evaluate.median_distance import median_distance
from rl_jax.evaluate.mig import mutual_information_gap
from rl_jax.evaluate.mlp_probe import mlp_probe
from rl_jax.evaluate.neighbours import nearest
from rl_jax.evaluate.neural_collapse import NeuralCollapse, neural_collapse
from rl_jax.evaluate.probe import Probe, ProbeResult, fit_probe, linear_probe
from rl_jax.evaluate.rbf_cka import rbf_cka
from rl_jax.evaluate.regression import logistic
from rl_jax.evaluate.retrieval import Recall, retrieval_recall
from rl_jax.evaluate.ridge import RegressionResult, Ridge, ridge, ridge_probe, ridge_r2
from rl_jax.evaluate.sap import separated_predictability
from rl_jax.evaluate.similarity import (
    SimilarityHistogram,
    SoftmaxSharpness,
    similarity_histogram,
    softmax_sharpness,
)
from rl_jax.evaluate.zero_shot import class_embeddings, zero_shot, zero_shot_accuracy

__all__ = [
    "AlignmentUniformity",
    "Attack",
    "ClassGeometry",
    "Coverage",
    "DCI",
    "Difference",
    "GradientMasking",
    "Guarantee",
    "MeanCorruptionError",
    "Hubness",
    "Interval",
    "NeuralCollapse",
    "PredictionSets",
    "Probe",
    "ProbeResult",
    "Recall",
    "RegressionResult",
    "Reliability",
    "Ridge",
    "RobustAccuracy",
    "SimilarityHistogram",
    "SoftmaxSharpness",
    "Temperature",
    "alignment_uniformity",
    "alpha_req",
    "aps_sets",
    "bootstrap_interval",
    "brier_score",
    "cka_map",
    "class_embeddings",
    "class_geometry",
    "collapse_verdict",
    "conformal_quantile",
    "contrastive_guarantee",
    "corrupt",
    "corrupt_all",
    "dci",
    "effective_rank",
    "expected_calibration_error",
    "factor_vae_score",
    "fit_probe",
    "fit_temperature",
    "fraction_draws",
    "gradient_masking",
    "hubness",
    "jackknife",
    "knn",
    "knn_accuracy",
    "label_draws",
    "lac_sets",
    "lidar",
    "linear_cka",
    "linear_probe",
    "logistic",
    "maximum_calibration_error",
    "mean_correlation",
    "mean_corruption_error",
    "median_distance",
    "minibatch_cka",
    "mlp_probe",
    "mutual_information_gap",
    "nearest",
    "negative_log_likelihood",
    "neural_collapse",
    "normalized_std",
    "paired_difference",
    "pca_2d",
    "pgd",
    "rank_me",
    "raw_pixels",
    "rbf_cka",
    "reliability",
    "retrieval_recall",
    "ridge",
    "ridge_probe",
    "ridge_r2",
    "robust_accuracy",
    "sampled_guarantee",
    "separated_predictability",
    "set_coverage",
    "similarity_histogram",
    "softmax_sharpness",
    "tsne",
    "wilson_interval",
    "zero_shot",
    "zero_shot_accuracy",
]
