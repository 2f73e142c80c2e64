"""SimSiam, Barlow Twins, VICReg, LeJEPA, DINO and SwAV."""

from cases import BATCH, Case, crops, nets
from rl_jax import methods, networks


def convolutional():
    """Nets that take images of any size."""
    head = networks.projection_head(hidden=16, out=8)
    return networks.convnet(widths=(8, 16)), head


DINO = {"total_steps": 10, "decay": 0.9, "prototypes": 12}

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
    "lejepa": Case(
        lambda: methods.lejepa(*nets(), weight=0.2, slices=16, knots=5),
        augment=crops(2),
    ),
    "lejepa of two views": Case(
        lambda: methods.lejepa(*nets(), slices=16, knots=5), slow=True
    ),
    "dino": Case(lambda: methods.dino(*nets(), **DINO), augment=crops(3)),
    "dino with smaller crops": Case(
        lambda: methods.dino(*convolutional(), warmup_steps=4, **DINO),
        augment=crops(2, size=6),
        slow=True,
    ),
    "swav": Case(lambda: methods.swav(*nets(), prototypes=12), augment=crops(3)),
    "swav with queues": Case(
        lambda: methods.swav(*nets(), prototypes=12, queue_size=24, queue_from=1)
    ),
    "swav with smaller crops": Case(
        lambda: methods.swav(*convolutional(), prototypes=12, frozen_steps=1),
        augment=crops(2, size=6),
        slow=True,
    ),
}
