"""Training: the step, the loop around it, optimizers, checkpoints, metrics."""

from rl_jax.methods.probe import not_probe
from rl_jax.train.arguments import check_labels, check_range, check_seed
from rl_jax.train.checkpoint import Checkpoints
from rl_jax.train.digests import fingerprint, path_of, room_needed
from rl_jax.train.flops import Flops, count_flops
from rl_jax.train.initial import initial_state, restore_target
from rl_jax.train.lars import lars
from rl_jax.train.loop import fetch, fit, scanned_steps
from rl_jax.train.metrics import CLOCK, MetricsFile, keep_rows, read_rows
from rl_jax.train.nonfinite import POLICIES, LostSteps, check_policy
from rl_jax.train.optimizers import (
    Optimizer,
    adamw,
    scale_learning_rate,
    sgd,
    with_schedule,
)
from rl_jax.train.peers import leave, lost
from rl_jax.train.planned import PlannedStep, plan_step
from rl_jax.train.processes import (
    any_of,
    check_alike,
    is_first,
    join,
    joined,
    of_first,
    together,
)
from rl_jax.train.sharding import check_batch_size, data_mesh, put, replicated
from rl_jax.train.sinks import NO_SINKS, Sinks, check_sinks, open_sinks
from rl_jax.train.step import diagnostics, init_train_state, step_keys, train_step

__all__ = [
    "CLOCK",
    "Checkpoints",
    "Flops",
    "LostSteps",
    "MetricsFile",
    "NO_SINKS",
    "Optimizer",
    "POLICIES",
    "PlannedStep",
    "Sinks",
    "adamw",
    "any_of",
    "check_alike",
    "check_batch_size",
    "check_labels",
    "check_policy",
    "check_range",
    "check_seed",
    "check_sinks",
    "count_flops",
    "data_mesh",
    "diagnostics",
    "fetch",
    "fingerprint",
    "fit",
    "init_train_state",
    "initial_state",
    "is_first",
    "join",
    "joined",
    "keep_rows",
    "leave",
    "lars",
    "lost",
    "not_probe",
    "of_first",
    "open_sinks",
    "path_of",
    "plan_step",
    "put",
    "read_rows",
    "replicated",
    "restore_target",
    "room_needed",
    "scale_learning_rate",
    "scanned_steps",
    "sgd",
    "step_keys",
    "together",
    "train_step",
    "with_schedule",
]
