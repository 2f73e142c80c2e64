"""SimCLR, MoCo, BYOL, MoCo v3, and the probe beside them."""

from cases import BATCH, Case, nets
from rl_jax import methods

CASES = {
    "simclr": Case(lambda: methods.simclr(*nets(), temperature=0.5)),
    "simclr in micro-batches": Case(
        lambda: methods.simclr(*nets(batch_norm=False), micro_batch=BATCH // 2),
        slow=True,
    ),
    "moco": Case(lambda: methods.moco(*nets(), queue_size=40, decay=0.9)),
    "moco symmetric": Case(
        lambda: methods.moco(*nets(), queue_size=40, symmetric=True), slow=True
    ),
    "moco split": Case(
        lambda: methods.moco(*nets(split=4), queue_size=40, split=4), slow=True
    ),
    "moco average": Case(
        lambda: methods.moco(
            *nets(), queue_size=40, decay=0.9, target_statistics="average"
        ),
        slow=True,
    ),
    "moco_v3": Case(lambda: methods.moco_v3(*nets(True), total_steps=10, decay=0.9)),
    "moco_v3 average in micro-batches": Case(
        lambda: methods.moco_v3(
            *nets(True, batch_norm=False),
            total_steps=10,
            cosine=False,
            target_statistics="average",
            micro_batch=BATCH // 2,
        ),
        slow=True,
    ),
    "byol": Case(lambda: methods.byol(*nets(True), total_steps=10, decay=0.9)),
    "byol average": Case(
        lambda: methods.byol(
            *nets(True), total_steps=10, decay=0.9, target_statistics="average"
        ),
        slow=True,
    ),
    "simclr + probe": Case(
        lambda: methods.with_probe(methods.simclr(*nets()), num_classes=4), slow=True
    ),
    "byol + probe": Case(
        lambda: methods.with_probe(
            methods.byol(*nets(True), total_steps=10), num_classes=4
        ),
        slow=True,
    ),
}
