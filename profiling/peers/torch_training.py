"""Steps of methods, optimizers and schedules of other libraries, of our inputs.

As in `torch_losses`; networks are single matrices, `x @ w`.
"""

import types

import torch
import torch.nn.functional as F
from authors import bare, take
from torch import nn


class Matrix(nn.Module):
    """`x @ w`, where w stays what is differentiated by."""

    def __init__(self, w):
        super().__init__()
        self.w = w if isinstance(w, nn.Parameter) else None
        self.given = w

    def forward(self, x):
        """Rows times the matrix."""
        return x @ (self.given if self.w is None else self.w)


class Target(Matrix):
    """One that follows another."""

    def __init__(self, w):
        super().__init__(nn.Parameter(w.detach().clone(), requires_grad=False))


class Online(Matrix):
    """One that another follows: a parameter of the same numbers stands for it."""

    def __init__(self, w):
        super().__init__(w)
        self.shown = nn.Parameter(w.detach().clone(), requires_grad=False)


def simsiam_step(encoder, predictor, views):
    code = take("simsiam/simsiam/builder.py", "SimSiam").SimSiam
    model = bare(code, encoder=Matrix(encoder), predictor=Matrix(predictor))
    p1, p2, z1, z2 = model(views[:, 0], views[:, 1])
    criterion = nn.CosineSimilarity(dim=1)
    # The two lines of the authors' loop.
    return -(criterion(p1, z2).mean() + criterion(p2, z1).mean()) * 0.5


def byol_step(encoder, predictor, target, views, *, decay, total_steps):
    """The step after the first, which moved the target."""
    loss = take("solo-learn/solo/losses/byol.py", "byol_loss_func").byol_loss_func
    code = take("solo-learn/solo/utils/momentum.py", "MomentumUpdater")
    updater = code.MomentumUpdater(decay, 1.0)
    slow = Target(target)
    updater.update(Online(encoder), slow)
    total = 0.0
    for one, other in ((0, 1), (1, 0)):
        p = views[:, one] @ encoder @ predictor
        total = total + loss(p, slow(views[:, other]))
    return total


def moco_step(encoder, target, queue, views, *, temperature, decay):
    """Two steps on a full queue; the loss of the second."""
    from lightly.loss import NTXentLoss
    from lightly.models.utils import update_momentum

    criterion = NTXentLoss(temperature, memory_bank_size=tuple(queue.shape))
    criterion.memory_bank.bank = queue.clone()
    slow = Target(target)
    for x in views:
        update_momentum(Online(encoder), slow, decay)
        value = criterion(x[:, 0] @ encoder, slow(x[:, 1]))
    return value


def moco_v3_step(encoder, predictor, target, views, *, step, **options):
    names = ("MoCo", "concat_all_gather")
    code = take("moco-v3/moco/builder.py", *names).MoCo
    schedule = take("moco-v3/main_moco.py", "adjust_moco_momentum")
    args = {"epochs": options["total_steps"], "moco_m": options["decay"]}
    m = schedule.adjust_moco_momentum(step, types.SimpleNamespace(**args))
    model = bare(
        code,
        base_encoder=Online(encoder),
        momentum_encoder=Target(target),
        predictor=Matrix(predictor),
        T=options["temperature"],
    )
    return model(views[:, 0], views[:, 1], m)


def nnclr_step(encoder, predictor, queue, views, *, temperature):
    """Two steps on a full queue, view 1 enqueued; the loss of the second."""
    loss = take("solo-learn/solo/losses/nnclr.py", "nnclr_loss_func").nnclr_loss_func
    code = take("solo-learn/solo/methods/nnclr.py", "NNCLR").NNCLR
    model = bare(code, queue=queue.clone(), queue_ptr=torch.zeros(1, dtype=torch.long))
    model.queue_size, model.queue_y = len(queue), torch.zeros(len(queue))
    for x in views:
        z = [F.normalize(v @ encoder, dim=1) for v in x.unbind(1)]
        p = [v @ encoder @ predictor for v in x.unbind(1)]
        near = [model.find_nn(v)[1] for v in z]
        value = (
            loss(near[0], p[1], temperature) + loss(near[1], p[0], temperature)
        ) / 2
        model.dequeue_and_enqueue(z[0], torch.zeros(len(x)))
    return value


def lightly_nnclr_step(encoder, predictor, queue, views, *, temperature):
    """As `nnclr_step`, neighbours and queue by lightly's memory bank."""
    from lightly.models.modules import NNMemoryBankModule

    bank = NNMemoryBankModule(size=tuple(queue.shape))
    bank.bank = queue.clone()
    for x in views:
        z = [F.normalize(v @ encoder, dim=1) for v in x.unbind(1)]
        p = [F.normalize(v @ encoder @ predictor, dim=1) for v in x.unbind(1)]
        near = [bank(z[1].detach(), update=False), bank(z[0].detach(), update=True)]
        own = torch.arange(len(x))
        value = sum(
            F.cross_entropy(n @ q.T / temperature, own) / 2
            for n, q in zip(near, p, strict=True)
        )
    return value


def lightly_lejepa(encoder, views, local, directions, *, weight):
    from lightly.loss import LeJEPALoss

    criterion = LeJEPALoss(weight, sigreg_num_vectors=len(directions))
    criterion = criterion.to(torch.float64)
    criterion.sigreg._generate_unit_vectors = lambda *_: directions.T
    large, small = ((x @ encoder).transpose(0, 1) for x in (views, local))
    return criterion(global_proj=large, local_proj=small)


def _dino_scores(encoder, prototypes, *views):
    """Cosines, [V·B, K], view after view: the authors' normalised last layer."""
    rows = torch.cat([x for v in views for x in v.unbind(1)])
    return F.normalize(rows @ encoder, dim=1) @ F.normalize(prototypes, dim=1).T


def dino_step(encoder, prototypes, target, target_prototypes, views, local, **options):
    """Two steps, so that the centre counts; the loss of the second."""
    code = take("dino/main_dino.py", "DINOLoss").DINOLoss
    sharp = options["teacher_temperature"]
    crops = views.shape[2] + local.shape[2]
    criterion = code(
        len(prototypes), crops, sharp, sharp, 0, 1, options["student_temperature"]
    )
    for large, small in zip(views, local, strict=True):
        student = _dino_scores(encoder, prototypes, large, small)
        teacher = _dino_scores(target, target_prototypes, large)
        value = criterion(student, teacher, 0)
    return value


def lightly_dino(
    encoder, prototypes, target, target_prototypes, views, local, **options
):
    from lightly.loss import DINOLoss

    criterion = DINOLoss(
        len(prototypes),
        teacher_temp=options["teacher_temperature"],
        student_temp=options["student_temperature"],
    )
    for large, small in zip(views, local, strict=True):
        student = _dino_scores(encoder, prototypes, large, small)
        teacher = _dino_scores(target, target_prototypes, large)
        crops = [x.chunk(len(x) // len(large[:, 0])) for x in (teacher, student)]
        value = criterion(*map(list, crops))
    return value


def lightly_ema(old, new, *, decay):
    from lightly.models.utils import update_momentum

    slow = Target(old)
    update_momentum(Online(new), slow, decay)
    return slow.w


def _cosine_of_many(total, value):
    return torch.tensor([float(value(t)) for t in range(total)])


def moco_v3_momentum(*, start, total_steps):
    code = take("moco-v3/main_moco.py", "adjust_moco_momentum")
    args = types.SimpleNamespace(epochs=total_steps, moco_m=start)
    return _cosine_of_many(total_steps, lambda t: code.adjust_moco_momentum(t, args))


def dino_momentum(*, start, total_steps):
    code = take("dino/utils.py", "cosine_scheduler")
    return torch.tensor(code.cosine_scheduler(start, 1, 1, total_steps))


def solo_momentum(*, start, total_steps):
    code = take("solo-learn/solo/utils/momentum.py", "MomentumUpdater")
    updater = code.MomentumUpdater(start, 1.0)

    def value(t):
        updater.update_tau(t, total_steps)
        return updater.cur_tau

    return _cosine_of_many(total_steps, value)


def lightly_momentum(*, start, total_steps):
    from lightly.utils.scheduler import cosine_schedule

    # It counts the steps of which the last has the end value.
    return _cosine_of_many(
        total_steps, lambda t: cosine_schedule(t, total_steps + 1, start, 1.0)
    )


def mae_rate(*, peak, warmup_steps, total_steps):
    code = take("mae/util/lr_sched.py", "adjust_learning_rate")
    args = types.SimpleNamespace(
        lr=peak, min_lr=0.0, warmup_epochs=warmup_steps, epochs=total_steps
    )
    optimizer = types.SimpleNamespace(param_groups=[])
    return _cosine_of_many(
        total_steps, lambda t: code.adjust_learning_rate(optimizer, t, args)
    )


def timm_rate(*, peak, warmup_steps, total_steps):
    from timm.scheduler import CosineLRScheduler

    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=peak)
    schedule = CosineLRScheduler(
        optimizer,
        total_steps - warmup_steps,
        warmup_t=warmup_steps,
        warmup_prefix=True,
    )
    return _cosine_of_many(total_steps, lambda t: schedule._get_lr(t)[0])


def barlow_twins_rate(*, peak, warmup_steps, total_steps):
    code = take("barlowtwins/main.py", "adjust_learning_rate")
    groups = [{"lr": 0.0}, {"lr": 0.0}]
    optimizer = types.SimpleNamespace(param_groups=groups)
    # Ten epochs are its warm-up.
    loader = range(warmup_steps // 10)
    args = types.SimpleNamespace(
        epochs=total_steps // len(loader),
        batch_size=256,
        learning_rate_weights=peak,
        learning_rate_biases=peak,
    )

    def value(t):
        code.adjust_learning_rate(args, optimizer, loader, t)
        return groups[0]["lr"]

    return _cosine_of_many(total_steps, value)


def _walk(make, kernel, bias, kernel_grads, bias_grads, rates):
    """How far kernel and bias have come, flat, by an optimizer on given gradients."""
    start = [kernel, bias]
    params = [nn.Parameter(x.detach().clone()) for x in start]
    optimizer = make(*params)
    for *grads, rate in zip(kernel_grads, bias_grads, rates, strict=True):
        for param, grad in zip(params, grads, strict=True):
            param.grad = grad.clone()
        for group in optimizer.param_groups:
            group["lr"] = float(rate)
        optimizer.step()
    moved = [p.detach() - x for p, x in zip(params, start, strict=True)]
    return torch.cat([x.flatten() for x in moved])


def _plain(make):
    """An optimizer of PyTorch whose decay spares the bias, as ours do."""

    def walk(*arrays, weight_decay, **options):
        def both(kernel, bias):
            groups = [
                {"params": [kernel], "weight_decay": weight_decay},
                {"params": [bias], "weight_decay": 0.0},
            ]
            return make(groups, **options)

        return _walk(both, *arrays)

    return walk


def torch_adamw(groups, *, b1, b2):
    return torch.optim.AdamW(groups, lr=1.0, betas=(b1, b2))


def torch_sgd(groups, *, momentum):
    return torch.optim.SGD(groups, lr=1.0, momentum=momentum)


def lightly_lars(groups, *, momentum, trust_coefficient):
    from lightly.utils.lars import LARS

    options = {"momentum": momentum, "trust_coefficient": trust_coefficient}
    return LARS(groups, lr=1.0, **options)


def timm_lars(groups, *, momentum, trust_coefficient):
    from timm.optim import Lars

    return Lars(groups, momentum=momentum, trust_coeff=trust_coefficient)


def solo_lars(*arrays, weight_decay, momentum, trust_coefficient, clip_lr=False):
    code = take("solo-learn/solo/utils/lars.py", "LARS")
    options = {"weight_decay": weight_decay, "momentum": momentum, "clip_lr": clip_lr}
    options |= {"eta": trust_coefficient, "exclude_bias_n_norm": True}
    return _walk(lambda *p: code.LARS(p, lr=1.0, **options), *arrays)


def mae_lars(*arrays, weight_decay, momentum, trust_coefficient):
    code = take("mae/util/lars.py", "LARS")
    options = {"weight_decay": weight_decay, "momentum": momentum}
    options["trust_coefficient"] = trust_coefficient
    return _walk(lambda *p: code.LARS(p, lr=1.0, **options), *arrays)


def barlow_twins_lars(*arrays, weight_decay, momentum, trust_coefficient):
    code = take("barlowtwins/main.py", "LARS")
    options = {"weight_decay": weight_decay, "momentum": momentum}
    options |= {"weight_decay_filter": True, "lars_adaptation_filter": True}
    return _walk(
        lambda *p: code.LARS(p, lr=1.0, eta=trust_coefficient, **options), *arrays
    )


FUNCTIONS = {
    "SimSiam.forward": simsiam_step,
    "byol_loss_func, MomentumUpdater": byol_step,
    "lightly.loss.NTXentLoss, update_momentum": moco_step,
    "MoCo.forward": moco_v3_step,
    "nnclr_loss_func, NNCLR.find_nn": nnclr_step,
    "NNMemoryBankModule": lightly_nnclr_step,
    "lightly.loss.LeJEPALoss": lightly_lejepa,
    "DINOLoss.forward": dino_step,
    "lightly.loss.DINOLoss": lightly_dino,
    "lightly.models.utils.update_momentum": lightly_ema,
    "adjust_moco_momentum": moco_v3_momentum,
    "cosine_scheduler": dino_momentum,
    "MomentumUpdater.update_tau": solo_momentum,
    "lightly.utils.scheduler.cosine_schedule": lightly_momentum,
    "lr_sched.adjust_learning_rate": mae_rate,
    "CosineLRScheduler": timm_rate,
    "adjust_learning_rate": barlow_twins_rate,
    "optim.AdamW": _plain(torch_adamw),
    "optim.SGD": _plain(torch_sgd),
    "lightly.utils.lars.LARS": _plain(lightly_lars),
    "Lars": _plain(timm_lars),
    "LARS": solo_lars,
    "util.lars.LARS": mae_lars,
    "main.LARS": barlow_twins_lars,
}
"""By the names that the cases have for them."""
