"""Methods that tell patches taken out, of our inputs; as in `torch_losses`."""

import functools

import torch
import torch.nn.functional as F
from authors import bare, take
from torch import nn

MODEL, UTILS = "ijepa/src/models/vision_transformer.py", "ijepa/src/utils/tensors.py"


def torch_smooth_l1(predicted, target, *, beta):
    return F.smooth_l1_loss(predicted, target, beta=beta)


def simmim(predicted, image, masked):
    code = take("SimMIM/models/simmim.py", "SimMIM").SimMIM
    rows = predicted.shape[0]
    told = predicted.reshape(rows, 4, 4, 4, 4, 3).permute(0, 5, 1, 3, 2, 4)
    parts = {"encoder": lambda x, mask: x, "decoder": lambda x: told.reshape(x.shape)}
    model = bare(code, in_chans=3, patch_size=4, **parts)
    return model(image.permute(0, 3, 1, 2), masked.reshape(rows, 4, 4))


def _masks(context, targets):
    """As the authors' collator gives them: a list, an entry for each mask."""
    return [context.long()], list(targets.long().unbind(1))


def i_jepa_predictor(tokens, mask, *rest):
    *params, context, targets = rest
    sincos = ("", "_from_grid")
    code = take(
        MODEL,
        "VisionTransformerPredictor", "Block", "Attention", "MLP", "DropPath",
        *(f"get_2d_sincos_pos_embed{name}" for name in sincos),
        "get_1d_sincos_pos_embed_from_grid",
    )  # fmt: skip
    tools = take(UTILS, "repeat_interleave_batch", "trunc_normal_",
                 "_no_grad_trunc_normal_")  # fmt: skip
    apply_masks = take("ijepa/src/masks/utils.py", "apply_masks").apply_masks
    code.space |= {
        "apply_masks": apply_masks,
        "repeat_interleave_batch": tools.repeat_interleave_batch,
        "trunc_normal_": tools.trunc_normal_,
    }
    dim, width = params[0].shape
    model = code.VisionTransformerPredictor(
        16,
        embed_dim=dim,
        predictor_embed_dim=width,
        depth=1,
        num_heads=2,
        norm_layer=functools.partial(nn.LayerNorm, eps=1e-6),
    )
    # The authors' table is of float32 numbers.
    table = code.get_2d_sincos_pos_embed(width, 4)
    model.predictor_pos_embed.data = torch.from_numpy(table)[None]
    block = "predictor_blocks.0"
    layers = ["predictor_embed"]
    layers += [f"{block}.{n}" for n in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")]
    layers += ["predictor_proj", f"{block}.norm1", f"{block}.norm2", "predictor_norm"]
    names = [f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")]
    given = dict(zip(names, params, strict=True))
    given = {k: v.T if v.ndim == 2 else v for k, v in given.items()}
    given["mask_token"] = mask[None, None]
    told = torch.func.functional_call(model, given, (tokens, *_masks(context, targets)))
    return told.square().mean()


def i_jepa_step(
    encoder, head, target, image, context, targets, *, step, decay, total_steps
):
    apply_masks = take("ijepa/src/masks/utils.py", "apply_masks").apply_masks
    repeat = take(UTILS, "repeat_interleave_batch").repeat_interleave_batch
    # Its `momentum_scheduler`, and the update after a step.
    m = decay + step * (1.0 - decay) / total_steps
    slow = m * target + (1.0 - m) * encoder.detach()
    masks_enc, masks_pred = _masks(context, targets)
    rows = image.shape[0]
    patches = image.reshape(rows, 4, 2, 4, 2, 1).transpose(2, 3).reshape(rows, 16, 4)
    # `forward_target`, `forward_context` and `loss_fn`, around matrices.
    h = patches @ slow
    h = F.layer_norm(h, (h.size(-1),))
    h = apply_masks(h, masks_pred)
    h = repeat(h, rows, repeat=len(masks_enc))
    z = apply_masks(patches @ encoder, masks_enc)
    z = (z.mean(1, keepdim=True) @ head).repeat(len(masks_pred), 1, 1)
    places = torch.arange(16).repeat(rows, 1)[..., None]
    places = apply_masks(places // 4 + places % 4, masks_pred)
    return F.smooth_l1_loss(z + places, h)


def ibot_step(
    encoder, prototypes, mask, target, target_prototypes, views, local, hidden,
    *, student_temperature, teacher_temperature, patch_temperature, centre_momentum,
):  # fmt: skip
    """Two steps, so that the centres count; the loss of the second."""
    code = take("ibot/main_ibot.py", "iBOTLoss").iBOTLoss
    words = len(prototypes)
    criterion = code(
        words, words, views.shape[2], local.shape[2],
        teacher_temperature, teacher_temperature, patch_temperature, patch_temperature,
        0, 1, student_temperature, centre_momentum, centre_momentum,
    )  # fmt: skip
    masks = list(hidden.bool().reshape(*hidden.shape[:2], 4, 4).unbind(1))

    def tokens(weight, crops, masks=None):
        """Scores of class tokens and patches, view after view."""
        rows = torch.cat(crops.unbind(1))
        side = rows.shape[1] // 2
        cut = rows.reshape(-1, side, 2, side, 2).transpose(2, 3)
        x = cut.reshape(len(rows), side * side, 4) @ weight
        if masks is not None:
            x = torch.where(torch.cat(masks).flatten(1)[..., None], mask, x)
        mean = x.mean(1, keepdim=True)
        return torch.cat([mean, x + mean], 1)

    def scores(x, words):
        x = F.normalize(x, dim=-1) @ F.normalize(words, dim=1).T
        return x[:, 0], x[:, 1:]

    for large, small in zip(views, local, strict=True):
        value = criterion(
            scores(tokens(encoder, large, masks), prototypes),
            scores(tokens(target, large), target_prototypes),
            scores(tokens(encoder, small), prototypes)[0],
            masks,
            0,
        )["loss"]
    return value


FUNCTIONS = {
    "smooth_l1_loss": torch_smooth_l1,
    "SimMIM.forward": simmim,
    "VisionTransformerPredictor.forward": i_jepa_predictor,
    "apply_masks, repeat_interleave_batch": i_jepa_step,
    "iBOTLoss.forward": ibot_step,
}
"""By the names that the cases have for them."""
