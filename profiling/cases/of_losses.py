"""Losses, beside the same of other libraries."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from profiling.cases import Case, Peer, normal, pairs
from rl_jax import losses, networks
from rl_jax.methods import classifier
from rl_jax.networks.patches import sincos

ROWS, DIM = 32, 16
LIGHTLY, LEARNING = "lightly", "pytorch-metric-learning"
SOLO, STABLE, TORCH = "solo-learn", "stable-pretraining", "torch"
DINO_V2 = "dinov2"
SKETCH = jax.random.key(0)
UNKNOWN = 5
"""Rows of `labelled_and_not` that no other has the label of."""


def optax_nt_xent(a, b, *, temperature):
    label = jnp.arange(len(a))
    both = jnp.concatenate([a, b])
    return optax.losses.ntxent(both, jnp.concatenate([label, label]), temperature)


def with_negatives(rng):
    return *pairs(ROWS, DIM)(rng), rng.standard_normal((48, DIM), np.float32)


def with_scalars(*values):
    def make(rng):
        return *pairs(ROWS, DIM)(rng), *(np.asarray(v, np.float32) for v in values)

    return make


def clip(image, text, scale):
    return losses.clip(image, text, logit_scale=scale)


def sigmoid(image, text, scale, bias):
    return losses.sigmoid(image, text, logit_scale=scale, bias=bias)


def labelled(rng):
    """Rows of a few classes of different sizes."""
    label = np.repeat([0, 1, 2, 3], [2, 5, 10, 15])
    return rng.standard_normal((ROWS, DIM), np.float32), np.float32(label)


def labelled_and_not(rng):
    """Rows of which some have no other of their class."""
    z, label = labelled(rng)
    label[-UNKNOWN:] = 10 + np.arange(UNKNOWN)
    return z, label


def sup_con(z, label, *, temperature):
    return losses.sup_con(z, label.astype(jnp.int32), temperature=temperature)


def negative_cosine_of(p, z):
    return losses.negative_cosine(p, jax.lax.stop_gradient(z))


def slices(rng):
    """Three views of each row, and the directions in which ours looks at them."""
    z = 1.5 * rng.standard_normal((ROWS, 3, DIM), np.float32) + 0.2
    drawn = jax.random.normal(SKETCH, (64, DIM))
    return z, np.asarray(losses.normalize(drawn))


def sigreg(z, directions, **options):
    return losses.sigreg(SKETCH, z, slices=len(directions), **options)


def swav(scores, *, temperature):
    """The loss of SwAV from scores [B, V, K], as `methods.swav` makes it."""
    large = jax.lax.stop_gradient(scores[:, :2])
    q = jnp.stack([losses.sinkhorn(large[:, i]) for i in range(2)], axis=1)
    return losses.swapped_cross_entropy(q, scores / temperature)


def hidden_patches(rng):
    """Scores of a student and a teacher, and which patches of an image are hidden."""
    student, teacher = rng.uniform(-0.6, 0.6, (2, 6, 9, 10)).astype(np.float32)
    hidden = rng.uniform(size=(6, 9)) < 0.4
    hidden[0], hidden[1] = False, True
    return student, teacher, hidden.astype(np.float32)


def patches(student, teacher, hidden, *, student_temperature, teacher_temperature):
    q = jax.nn.softmax(jax.lax.stop_gradient(teacher) / teacher_temperature)
    return losses.patch_cross_entropy(q, student / student_temperature, hidden)


def of_hidden(_, teacher, hidden, *, epsilon, iterations):
    """Assignments of the hidden patches, 0 of the others."""
    rows, weight = teacher.reshape(-1, teacher.shape[-1]), hidden.reshape(-1)
    options = {"epsilon": epsilon, "iterations": iterations}
    return losses.sinkhorn(rows, weight, **options) * weight[:, None]


def cosines(*shape):
    return lambda rng: (rng.uniform(-0.6, 0.6, shape).astype(np.float32),)


def masked_images(rng):
    """Predicted patches, images, and which patches were taken out, three of four."""
    image = rng.uniform(size=(4, 16, 16, 3)).astype(np.float32)
    masked = np.argsort(rng.uniform(size=(4, 16))) < 12
    predicted = rng.standard_normal((4, 16, 48), np.float32)
    return predicted, image, masked.astype(np.float32)


def mae(predicted, image, masked, *, patch, normalise):
    target = networks.patchify(image, patch)
    target = losses.normalise_patches(target) if normalise else target
    out = jnp.argsort(-masked, axis=1, stable=True)[:, :12, None]
    chosen = (jnp.take_along_axis(x, out, axis=1) for x in (predicted, target))
    return losses.squared_error(*chosen)


def positions(*, side, width):
    return sincos(networks.patch_positions(side, side), width)


def words(rng):
    """Logits of every word, and its id where it counts, else −100."""
    label = rng.integers(0, 20, (4, 12))
    counts = rng.uniform(size=label.shape) < 0.3
    logits = rng.standard_normal((4, 12, 20), np.float32)
    return logits, np.where(counts, label, -100).astype(np.float32)


def cross_entropy(logits, label):
    label = label.astype(jnp.int32)
    return losses.weighted_cross_entropy(logits, label, label != -100)


def classified(rng):
    """Logits, and a label or −1."""
    label = rng.integers(-1, 10, ROWS).astype(np.float32)
    return rng.standard_normal((ROWS, 10), np.float32), label


def smoothed(logits, label, *, smoothing):
    found = classifier.cross_entropy(
        logits, label.astype(jnp.int32), smoothing=smoothing
    )
    return found[0]


def gaussian_kl(*moments):
    return losses.gaussian_kl(*moments).sum()


def gaussian(mean, log_variance, x):
    return losses.gaussian_log_likelihood(x, mean, log_variance).sum()


def grey(rng):
    logits = rng.standard_normal((8, 12), np.float32)
    return logits, rng.uniform(size=logits.shape).astype(np.float32)


def bernoulli(logits, x):
    return losses.bernoulli_log_likelihood(x, logits).sum()


def shares(rng):
    return (rng.uniform(0.05, 0.6, (ROWS, DIM)).astype(np.float32),)


WARM = {"temperature": 0.1}
RAW = (ROWS, DIM)
FIXED = {"epsilon": 0.05, "iterations": 3}

CASES = (
    Case(
        "NT-Xent", losses.nt_xent, pairs(*RAW), 2, WARM,
        (
            Peer(LIGHTLY, "lightly.loss.NTXentLoss"),
            Peer(LEARNING, "losses.NTXentLoss"),
            Peer(
                "SupContrast", "SupConLoss, no labels",
                "theirs is times τ/τ₀; τ₀ = τ given",
            ),
            Peer(SOLO, "simclr_loss_func"),
            Peer(STABLE, "NTXEntLoss"),
            Peer("optax", "losses.ntxent", inside=optax_nt_xent),
        ),
    ),
    Case(
        "NT-Xent, decoupled", losses.nt_xent, pairs(*RAW), 2,
        {"temperature": 0.3, "decoupled": True},
        (Peer(LIGHTLY, "lightly.loss.DCLLoss"),),
    ),
    Case(
        "InfoNCE, keys of the batch", losses.info_nce, pairs(*RAW), 2, WARM,
        (Peer("info-nce-pytorch", "InfoNCE"),),
    ),
    Case(
        "InfoNCE, keys constant", losses.info_nce, pairs(*RAW), 1, WARM,
        (
            Peer(
                "moco-v3", "MoCo.contrastive_loss",
                "theirs is times 2τ, which is ours in `methods.moco_v3`",
                factor=1 / (2 * WARM["temperature"]),
            ),
        ),
    ),
    Case(
        "InfoNCE, given negatives", losses.info_nce, with_negatives, 2, WARM,
        (
            Peer("info-nce-pytorch", "InfoNCE"),
            Peer(LIGHTLY, "lightly.loss.NTXentLoss, memory bank"),
            Peer(SOLO, "mocov2plus_loss_func"),
        ),
    ),
    Case(
        "CLIP", clip, with_scalars(14.0), 3, {},
        (Peer("open_clip_torch", "ClipLoss"),),
    ),
    Case(
        "SigLIP", sigmoid, with_scalars(10.0, -10.0), 4, {},
        (Peer("open_clip_torch", "SigLipLoss"),),
    ),
    Case(
        "SupCon", sup_con, labelled, 1, WARM,
        (
            Peer(LEARNING, "losses.SupConLoss"),
            Peer("SupContrast", "SupConLoss", "theirs is times τ/τ₀; τ₀ = τ given"),
        ),
    ),
    Case(
        "SupCon, some rows without a positive", sup_con, labelled_and_not, 1, WARM,
        (
            Peer(LEARNING, "losses.SupConLoss"),
            Peer(
                "SupContrast", "SupConLoss",
                "theirs counts rows without a positive as 0 in the mean",
                factor=ROWS / (ROWS - UNKNOWN),
            ),
        ),
    ),
    Case(
        "alignment, α = 2", losses.alignment, pairs(*RAW), 2, {"alpha": 2},
        (Peer("align_uniform", "align_loss"),),
    ),
    Case(
        "alignment, α = 1", losses.alignment, pairs(*RAW), 2, {"alpha": 1},
        (Peer("align_uniform", "align_loss"),),
    ),
    Case(
        "uniformity", losses.uniformity, normal(RAW), 1, {"t": 2},
        (Peer("align_uniform", "uniform_loss"),),
    ),
    Case(
        "Barlow Twins", losses.barlow_twins, pairs(*RAW), 2, {"off_diagonal": 0.0051},
        (
            Peer(LIGHTLY, "lightly.loss.BarlowTwinsLoss"),
            Peer("barlowtwins", "BarlowTwins.forward"),
            Peer(
                STABLE, "BarlowTwinsLoss",
                "theirs divides by the unbiased deviation: unbiased=True",
                ours={"unbiased": True},
            ),
        ),
    ),
    Case(
        "Barlow Twins, scaled", losses.barlow_twins, pairs(*RAW), 2,
        {"off_diagonal": 0.005, "scale": 0.1},
        (Peer(SOLO, "barlow_loss_func"),),
    ),
    Case(
        "VICReg", losses.vicreg, pairs(*RAW), 2, {},
        (
            Peer(LIGHTLY, "lightly.loss.VICRegLoss"),
            Peer("vicreg", "VICReg.forward"),
            Peer(
                SOLO, "vicreg_loss_func",
                "theirs adds the two variances, no half: halve=False",
                ours={"halve": False},
            ),
        ),
    ),
    Case(
        "SIGReg of three views", sigreg, slices, 1, {"knots": 17, "t_max": 3.0},
        (
            Peer(LIGHTLY, "lightly.loss.SIGReg"),
            Peer("lejepa", "EppsPulley.forward"),
        ),
    ),
    Case(
        "KoLeo", losses.koleo, normal((ROWS, 4)), 1, {},
        (
            Peer(LIGHTLY, "lightly.loss.KoLeoLoss"),
            Peer(DINO_V2, "KoLeoLoss.forward"),
        ),
    ),
    Case(
        "negative cosine", losses.negative_cosine, pairs(*RAW), 2, {},
        (Peer(LIGHTLY, "lightly.loss.NegativeCosineSimilarity"),),
    ),
    Case(
        "negative cosine, target stopped", negative_cosine_of, pairs(*RAW), 1, {},
        (Peer(SOLO, "simsiam_loss_func"),),
    ),
    Case(
        "Sinkhorn's assignments", losses.sinkhorn, cosines(ROWS, 10), 0, FIXED,
        (
            Peer(LIGHTLY, "lightly.loss.swav_loss.sinkhorn"),
            Peer("swav", "distributed_sinkhorn"),
            Peer(SOLO, "SinkhornKnopp"),
        ),
    ),
    Case(
        "SwAV, two large and three small views", swav, cosines(ROWS, 5, 10), 1, WARM,
        (Peer(LIGHTLY, "lightly.loss.SwaVLoss"),),
    ),
    Case(
        "iBOT's hidden patches", patches, hidden_patches, 1,
        {"student_temperature": 0.1, "teacher_temperature": 0.04},
        (
            Peer(LIGHTLY, "lightly.loss.IBOTPatchLoss"),
            Peer(DINO_V2, "iBOTPatchLoss.forward_masked"),
        ),
    ),
    Case(
        "Sinkhorn's assignments of hidden patches", of_hidden, hidden_patches, 0, FIXED,
        (Peer(DINO_V2, "iBOTPatchLoss.sinkhorn_knopp_teacher"),),
    ),
    *(
        Case(
            f"MAE, patches {'normalised' if normalise else 'as they are'}",
            mae, masked_images, 1, {"patch": 4, "normalise": normalise},
            (
                Peer("mae", "MaskedAutoencoderViT.forward_loss"),
                Peer(LIGHTLY, "lightly.models.utils.patchify, normalize_mean_var"),
            ),
        )
        for normalise in (True, False)
    ),
    Case(
        "MAE's positions", positions, normal(), 0, {"side": 7, "width": 32},
        (
            Peer("mae", "get_2d_sincos_pos_embed"),
            Peer(
                "timm", "build_sincos2d_pos_embed",
                "theirs has all sines first; put in MAE's order, columns first",
            ),
        ),
    ),
    Case(
        "cross-entropy of masked words", cross_entropy, words, 1, {},
        (Peer(TORCH, "cross_entropy", "theirs leaves out label −100, ours weight 0"),),
    ),
    Case(
        "cross-entropy, smoothed, some labels unknown", smoothed, classified, 1,
        {"smoothing": 0.1},
        (
            Peer(
                TORCH, "cross_entropy, label_smoothing",
                "unknown is −1, which theirs is told to leave out",
            ),
        ),
    ),
    Case(
        "Gaussian divergence", gaussian_kl, normal(*4 * [RAW]), 4, {},
        (Peer(TORCH, "distributions.kl_divergence of Normal"),),
    ),
    Case(
        "Gaussian log-likelihood", gaussian, normal(*3 * [RAW]), 2, {},
        (Peer(TORCH, "gaussian_nll_loss", "theirs is minus ours", factor=-1.0),),
    ),
    Case(
        "Bernoulli log-likelihood", bernoulli, grey, 1, {},
        (
            Peer(
                TORCH, "binary_cross_entropy_with_logits", "theirs is minus ours",
                factor=-1.0,
            ),
        ),
    ),
    Case(
        "sparsity of mean activations", losses.kl_sparsity, shares, 1, {"rho": 0.1},
        (Peer(TORCH, "distributions.kl_divergence of Bernoulli"),),
    ),
    Case(
        "squared distance", losses.squared_distance, normal(RAW, RAW), 2, {},
        (
            Peer(
                TORCH, "mse_loss", "theirs is the mean over entries, ours over rows",
                factor=DIM,
            ),
        ),
    ),
)  # fmt: skip
