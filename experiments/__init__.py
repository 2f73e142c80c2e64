"""Every claim of the text that can be computed: a file each, which checks itself.

`NAMES` is the order of the text. A file has a docstring that teaches (its first line
is the claim), `SECTION`, `TITLE`, `run(**keywords) -> Outcome`, `draw(figure, found)`.
"""

NAMES = (
    "projections",
    "sufficiency",
    "approximate_sufficiency",
    "bayes_risk",
    "linear_autoencoder",
    "circle",
    "denoising",
    "sparse_coding",
    "elbo",
    "gradient_estimators",
    "rate_distortion",
    "information_bound",
    "density_ratio",
    "uniform_limit",
    "projection_head",
    "negatives",
    "stop_gradient",
    "discrete_bottleneck",
    "gaussian_bottleneck",
    "variational_bottleneck",
    "compression",
    "pretext_tasks",
    "similarity",
    "mean_classifier",
    "rotation_counterexample",
    "nonlinear_ica",
    "content_and_style",
    "loss_memory",
    "precision",
    "temperature",
    "hubness",
    "trajectories",
    "neural_collapse",
    "convergence",
)
