"""Losses of other libraries, as functions of our inputs.

A function takes the tensors of a case and its options, in our words, and hands them to
the library in its own. Nothing is scaled here: where conventions differ, the case says
how. Rows are normalised for those that expect unit rows.
"""

import types

import torch
import torch.distributed as dist
import torch.nn.functional as F
from authors import bare, take
from torch import nn


def alone() -> None:
    """A group of one process, which code for many GPUs asks for, and no GPU."""
    store = dist.HashStore()
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    torch.Tensor.cuda = lambda self, *_, **__: self


def unit(*rows):
    return [F.normalize(x, dim=-1) for x in rows]


def lightly_nt_xent(a, b, *, temperature):
    from lightly.loss import NTXentLoss

    return NTXentLoss(temperature)(a, b)


def lightly_decoupled(a, b, *, temperature, decoupled):
    from lightly.loss import DCLLoss

    assert decoupled
    return DCLLoss(temperature)(a, b)


def lightly_nt_xent_bank(query, key, negatives, *, temperature):
    from lightly.loss import NTXentLoss

    loss = NTXentLoss(temperature, memory_bank_size=tuple(negatives.shape))
    loss.memory_bank.bank = F.normalize(negatives, dim=1)
    return loss(query, key)


def metric_learning_nt_xent(a, b, *, temperature):
    from pytorch_metric_learning.losses import NTXentLoss

    label = torch.arange(len(a))
    return NTXentLoss(temperature)(torch.cat([a, b]), torch.cat([label, label]))


def sup_contrast_nt_xent(a, b, *, temperature):
    loss = take("SupContrast/losses.py", "SupConLoss").SupConLoss
    views = torch.stack(unit(a, b), dim=1)
    return loss(temperature, base_temperature=temperature)(views)


def solo_simclr(a, b, *, temperature):
    loss = take("solo-learn/solo/losses/simclr.py", "simclr_loss_func")
    index = torch.arange(len(a)).repeat(2)
    return loss.simclr_loss_func(torch.cat([a, b]), index, temperature)


STABLE = "stable-pretraining/stable_pretraining/losses/joint_embedding.py"


def stable_nt_xent(a, b, *, temperature):
    return take(STABLE, "NTXEntLoss", "InfoNCELoss").NTXEntLoss(temperature)(a, b)


def info_nce(query, key, negatives=None, *, temperature):
    from info_nce import InfoNCE

    return InfoNCE(temperature)(query, key, negatives)


def moco_v3_contrastive(query, key, *, temperature):
    moco = take("moco-v3/moco/builder.py", "MoCo", "concat_all_gather").MoCo
    return bare(moco, T=temperature).contrastive_loss(query, key)


def solo_moco(query, key, negatives, *, temperature):
    loss = take("solo-learn/solo/losses/mocov2plus.py", "mocov2plus_loss_func")
    query, key, negatives = unit(query, key, negatives)
    return loss.mocov2plus_loss_func(query, key, negatives.T, temperature)


def open_clip(image, text, scale):
    from open_clip.loss import ClipLoss

    return ClipLoss()(*unit(image, text), scale)


def open_clip_sigmoid(image, text, scale, bias):
    from open_clip.loss import SigLipLoss

    return SigLipLoss()(*unit(image, text), scale, bias)


def metric_learning_sup_con(z, label, *, temperature):
    from pytorch_metric_learning.losses import SupConLoss

    return SupConLoss(temperature)(z, label.long())


def sup_contrast(z, label, *, temperature):
    loss = take("SupContrast/losses.py", "SupConLoss").SupConLoss
    return loss(temperature, base_temperature=temperature)(*unit(z[:, None]), label)


def align(a, b, *, alpha):
    code = take("align_uniform/align_uniform/__init__.py", "align_loss")
    return code.align_loss(*unit(a, b), alpha=alpha)


def uniform(z, *, t):
    code = take("align_uniform/align_uniform/__init__.py", "uniform_loss")
    return code.uniform_loss(*unit(z), t=t)


def lightly_barlow_twins(a, b, *, off_diagonal):
    from lightly.loss import BarlowTwinsLoss

    return BarlowTwinsLoss(off_diagonal)(a, b)


def barlow_twins(a, b, *, off_diagonal):
    code = take("barlowtwins/main.py", "BarlowTwins", "off_diagonal")
    args = types.SimpleNamespace(batch_size=len(a), lambd=off_diagonal)
    same, bn = nn.Identity(), nn.BatchNorm1d(a.shape[1], affine=False)
    return bare(code.BarlowTwins, args=args, backbone=same, projector=same, bn=bn)(a, b)


def solo_barlow_twins(a, b, *, off_diagonal, scale):
    code = take("solo-learn/solo/losses/barlow.py", "barlow_loss_func")
    return code.barlow_loss_func(a, b, off_diagonal, scale)


def stable_barlow_twins(a, b, *, off_diagonal):
    files = (STABLE, STABLE.replace("joint_embedding", "utils"))
    names = ("BarlowTwinsLoss", "off_diagonal")
    code, helper = map(take, files, names)
    code.space["off_diagonal"] = helper.off_diagonal
    return code.BarlowTwinsLoss(off_diagonal)(a, b)


def lightly_vicreg(a, b):
    from lightly.loss import VICRegLoss

    return VICRegLoss()(a, b)


def vicreg(a, b):
    names = ("VICReg", "off_diagonal", "FullGatherLayer")
    code = take("vicreg/main_vicreg.py", *names)
    args = types.SimpleNamespace(
        batch_size=len(a), sim_coeff=25.0, std_coeff=25.0, cov_coeff=1.0
    )
    parts = {"args": args, "num_features": a.shape[1]}
    same = nn.Identity()
    return bare(code.VICReg, backbone=same, projector=same, **parts)(a, b)


def solo_vicreg(a, b):
    names = ("invariance_loss", "variance_loss", "covariance_loss", "vicreg_loss_func")
    return take("solo-learn/solo/losses/vicreg.py", *names).vicreg_loss_func(a, b)


def lightly_sigreg(z, directions, *, knots, t_max):
    from lightly.loss import SIGReg

    sketch = SIGReg(knots=knots, t_max=t_max, num_vectors=len(directions))
    sketch._generate_unit_vectors = lambda *_: directions.T
    return sketch.to(torch.float64)(z.transpose(0, 1))


def epps_pulley(z, directions, *, knots, t_max):
    code = take("lejepa/lejepa/univariate/epps_pulley.py", "EppsPulley")
    test = code.EppsPulley(t_max, knots).to(torch.float64)
    # What `SlicingUnivariateTest` does with its own directions.
    return test(z.transpose(0, 1) @ directions.T).mean()


def lightly_negative_cosine(p, z):
    from lightly.loss import NegativeCosineSimilarity

    return NegativeCosineSimilarity()(p, z)


def solo_simsiam(p, z):
    code = take("solo-learn/solo/losses/simsiam.py", "simsiam_loss_func")
    return code.simsiam_loss_func(p, z)


def lightly_sinkhorn(scores, *, epsilon, iterations):
    from lightly.loss.swav_loss import sinkhorn

    return sinkhorn(scores, iterations, epsilon)


def swav_sinkhorn(scores, *, epsilon, iterations):
    code = take("swav/main_swav.py", "distributed_sinkhorn")
    code.space["args"] = types.SimpleNamespace(
        epsilon=epsilon, sinkhorn_iterations=iterations, world_size=1
    )
    return code.distributed_sinkhorn(scores)


def solo_sinkhorn(scores, *, epsilon, iterations):
    code = take("solo-learn/solo/utils/sinkhorn_knopp.py", "SinkhornKnopp")
    return code.SinkhornKnopp(iterations, epsilon)(scores)


def lightly_swav(scores, *, temperature):
    from lightly.loss import SwaVLoss

    views = list(scores.unbind(1))
    return SwaVLoss(temperature)(views[:2], views[2:])


def lightly_koleo(z):
    from lightly.loss import KoLeoLoss

    return KoLeoLoss()(z)


def lightly_patches(
    student, teacher, hidden, *, student_temperature, teacher_temperature
):
    """Theirs takes the hidden patches alone, and a mask of rows and columns."""
    from lightly.loss import IBOTPatchLoss

    mask = hidden.bool()
    criterion = IBOTPatchLoss(
        teacher.shape[-1], teacher_temperature, student_temperature
    )
    square = mask.reshape(len(mask), 3, -1)
    return criterion(teacher[mask], student[mask], square)


PATCH_LOSS = "dinov2/dinov2/loss/ibot_patch_loss.py"


def dino_v2_koleo(z):
    return take("dinov2/dinov2/loss/koleo_loss.py", "KoLeoLoss").KoLeoLoss()(z)


def _dino_v2_patches(words, *options):
    """Theirs, with the lines for PyTorch alone: there is another form for a GPU."""
    code = take(PATCH_LOSS, "iBOTPatchLoss")
    code.space["lossfunc"] = lambda t, s, temp: torch.sum(
        t * F.log_softmax(s / temp, dim=-1), dim=-1
    )
    return code.iBOTPatchLoss(words, *options)


def dino_v2_patches(
    student, teacher, hidden, *, student_temperature, teacher_temperature
):
    mask = hidden.bool()
    criterion = _dino_v2_patches(teacher.shape[-1], student_temperature)
    q = criterion.softmax_center_teacher(teacher[mask][None], teacher_temperature)
    return criterion.forward_masked(student[mask], q[0], mask)


def dino_v2_sinkhorn(_, teacher, hidden, *, epsilon, iterations):
    mask = hidden.bool().flatten()
    rows = teacher.flatten(0, 1)
    count = mask.sum()
    found = torch.zeros_like(rows)
    criterion = _dino_v2_patches(rows.shape[1])
    found[mask] = criterion.sinkhorn_knopp_teacher(
        rows[mask], epsilon, count, iterations
    ).to(rows.dtype)
    return found


def mae_loss(predicted, image, masked, *, patch, normalise):
    code = take("mae/models_mae.py", "MaskedAutoencoderViT").MaskedAutoencoderViT
    embed = types.SimpleNamespace(patch_size=(patch, patch))
    model = bare(code, patch_embed=embed, norm_pix_loss=normalise)
    return model.forward_loss(image.permute(0, 3, 1, 2), predicted, masked)


def lightly_mae(predicted, image, masked, *, patch, normalise):
    from lightly.models import utils

    target = utils.patchify(image.permute(0, 3, 1, 2), patch)
    target = utils.normalize_mean_var(target) if normalise else target
    out = masked.bool()
    return F.mse_loss(predicted[out], target[out])


def mae_positions(*, side, width):
    names = ("", "_from_grid")
    code = take(
        "mae/util/pos_embed.py",
        *(f"get_2d_sincos_pos_embed{name}" for name in names),
        "get_1d_sincos_pos_embed_from_grid",
    )
    return torch.tensor(code.get_2d_sincos_pos_embed(width, side))


def timm_positions(*, side, width):
    from timm.layers import build_sincos2d_pos_embed

    found = build_sincos2d_pos_embed([side, side], width, dtype=torch.float64)
    # Sines of rows and of columns, then cosines of both.
    found = found.view(side * side, 2, 2, width // 4)
    return found.transpose(1, 2).flip(1).flatten(1)


def torch_cross_entropy(logits, label):
    return F.cross_entropy(logits.flatten(0, 1), label.long().flatten())


def torch_smoothed_cross_entropy(logits, label, *, smoothing):
    return F.cross_entropy(
        logits, label.long(), ignore_index=-1, label_smoothing=smoothing
    )


def torch_batch_norm(x):
    """Three steps: what the last gives, and the running statistics."""
    layer = nn.BatchNorm1d(x.shape[-1], affine=False)
    for rows in x:
        y = layer(rows)
    return torch.cat([y, layer.running_mean[None], layer.running_var[None]])


def torch_gelu(x):
    return F.gelu(x).sum()


def lightly_knn(features, label, queries, *, k, temperature):
    from lightly.utils.benchmarking.knn import knn_predict

    queries, features = unit(queries, features)
    classes = int(label.max()) + 1
    found = knn_predict(queries, features.T, label.long(), classes, k, temperature)
    return found[:, 0]


def torch_kl(mean, log_variance, prior_mean, prior_log_variance):
    from torch.distributions import Normal, kl_divergence

    posterior = Normal(mean, (log_variance / 2).exp())
    return kl_divergence(
        posterior, Normal(prior_mean, (prior_log_variance / 2).exp())
    ).sum()


def torch_gaussian(mean, log_variance, x):
    variance = log_variance.exp()
    return F.gaussian_nll_loss(mean, x, variance, full=True, reduction="sum")


def torch_bernoulli(logits, x):
    return F.binary_cross_entropy_with_logits(logits, x, reduction="sum")


def torch_kl_sparsity(z, *, rho):
    from torch.distributions import Bernoulli, kl_divergence

    return kl_divergence(Bernoulli(torch.tensor(rho)), Bernoulli(z.mean(0))).sum()


def torch_squared_error(x, y):
    return F.mse_loss(x, y)


FUNCTIONS = {
    "lightly.loss.NTXentLoss": lightly_nt_xent,
    "lightly.loss.DCLLoss": lightly_decoupled,
    "lightly.loss.NTXentLoss, memory bank": lightly_nt_xent_bank,
    "losses.NTXentLoss": metric_learning_nt_xent,
    "SupConLoss, no labels": sup_contrast_nt_xent,
    "simclr_loss_func": solo_simclr,
    "NTXEntLoss": stable_nt_xent,
    "InfoNCE": info_nce,
    "MoCo.contrastive_loss": moco_v3_contrastive,
    "mocov2plus_loss_func": solo_moco,
    "ClipLoss": open_clip,
    "SigLipLoss": open_clip_sigmoid,
    "losses.SupConLoss": metric_learning_sup_con,
    "SupConLoss": sup_contrast,
    "align_loss": align,
    "uniform_loss": uniform,
    "lightly.loss.BarlowTwinsLoss": lightly_barlow_twins,
    "BarlowTwins.forward": barlow_twins,
    "barlow_loss_func": solo_barlow_twins,
    "BarlowTwinsLoss": stable_barlow_twins,
    "lightly.loss.VICRegLoss": lightly_vicreg,
    "VICReg.forward": vicreg,
    "vicreg_loss_func": solo_vicreg,
    "lightly.loss.SIGReg": lightly_sigreg,
    "EppsPulley.forward": epps_pulley,
    "lightly.loss.NegativeCosineSimilarity": lightly_negative_cosine,
    "simsiam_loss_func": solo_simsiam,
    "lightly.loss.swav_loss.sinkhorn": lightly_sinkhorn,
    "distributed_sinkhorn": swav_sinkhorn,
    "SinkhornKnopp": solo_sinkhorn,
    "lightly.loss.SwaVLoss": lightly_swav,
    "lightly.loss.KoLeoLoss": lightly_koleo,
    "lightly.loss.IBOTPatchLoss": lightly_patches,
    "KoLeoLoss.forward": dino_v2_koleo,
    "iBOTPatchLoss.forward_masked": dino_v2_patches,
    "iBOTPatchLoss.sinkhorn_knopp_teacher": dino_v2_sinkhorn,
    "MaskedAutoencoderViT.forward_loss": mae_loss,
    "lightly.models.utils.patchify, normalize_mean_var": lightly_mae,
    "get_2d_sincos_pos_embed": mae_positions,
    "build_sincos2d_pos_embed": timm_positions,
    "cross_entropy": torch_cross_entropy,
    "cross_entropy, label_smoothing": torch_smoothed_cross_entropy,
    "nn.BatchNorm1d": torch_batch_norm,
    "gelu": torch_gelu,
    "lightly.utils.benchmarking.knn.knn_predict": lightly_knn,
    "distributions.kl_divergence of Normal": torch_kl,
    "gaussian_nll_loss": torch_gaussian,
    "binary_cross_entropy_with_logits": torch_bernoulli,
    "distributions.kl_divergence of Bernoulli": torch_kl_sparsity,
    "mse_loss": torch_squared_error,
}
"""By the names that the cases have for them."""
