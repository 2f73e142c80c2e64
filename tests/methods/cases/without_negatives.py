"""SimSiam, Barlow Twins and VICReg."""

from cases import BATCH, Case, nets
from rl_jax import methods

CASES = {
    "simsiam": Case(lambda: methods.simsiam(*nets(True))),
    "simsiam in micro-batches": Case(
        lambda: methods.simsiam(*nets(True, batch_norm=False), micro_batch=BATCH // 2),
        slow=True,
    ),
    "barlow_twins": Case(lambda: methods.barlow_twins(*nets())),
    "vicreg": Case(lambda: methods.vicreg(*nets())),
    "vicreg in micro-batches": Case(
        lambda: methods.vicreg(*nets(batch_norm=False), micro_batch=BATCH // 2),
        slow=True,
    ),
}
