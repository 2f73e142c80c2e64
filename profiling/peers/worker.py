"""The PyTorch side of a benchmark: a process of its own that times calls on request.

Run by `peers.TorchPeer` with any interpreter that has torch and numpy; imports nothing
of this project. Requests come on stdin, one line of JSON each, arrays behind it as raw
float32; replies go out the same way. Whatever else is printed goes to stderr.
"""

import functools
import importlib.metadata
import json
import math
import os
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F


def nt_xent(a, b, temperature):
    """NT-Xent on the whole matrix, as cross-entropy with labels."""
    z = F.normalize(torch.cat([a, b]), dim=1)
    n = len(z)
    s = z @ z.T / temperature
    s.fill_diagonal_(-math.inf)
    return F.cross_entropy(s.float(), torch.arange(n, device=z.device).roll(n // 2))


def metric_learning_nt_xent(a, b, temperature):
    """`NTXentLoss` of pytorch-metric-learning; memory grows with N³."""
    from pytorch_metric_learning.losses import NTXentLoss

    label = torch.arange(len(a), device=a.device)
    return NTXentLoss(temperature)(torch.cat([a, b]), torch.cat([label, label]))


def clip(a, b, temperature):
    """CLIP's loss on the whole matrix, as open_clip writes it for one process."""
    a, b = F.normalize(a, dim=1), F.normalize(b, dim=1)
    s = a @ b.T / temperature
    label = torch.arange(len(a), device=a.device)
    return (F.cross_entropy(s.float(), label) + F.cross_entropy(s.T.float(), label)) / 2


def inf_cl(a, b, temperature):
    """Inf-CL's flash loss (arXiv:2410.17243), a call for each direction."""
    from inf_cl import cal_flash_loss

    a, b = F.normalize(a, dim=1).float(), F.normalize(b, dim=1).float()
    options = {"scale": 1 / temperature, "head_dim": min(256, a.shape[1])}
    rows, columns = cal_flash_loss(a, b, **options), cal_flash_loss(b, a, **options)
    return (rows.mean() + columns.mean()) / 2


def cut_cross_entropy(a, b, temperature):
    """Apple's CCE (arXiv:2411.09009), a call for each direction, nothing filtered."""
    from cut_cross_entropy import linear_cross_entropy

    a, b = F.normalize(a, dim=1), F.normalize(b, dim=1)
    label = torch.arange(len(a), device=a.device)
    options = {"filter_eps": None}
    rows = linear_cross_entropy(a / temperature, b, label, **options)
    return (rows + linear_cross_entropy(b / temperature, a, label, **options)) / 2


def liger(a, b, temperature):
    """Liger's fused linear cross-entropy (arXiv:2410.10989), for each direction."""
    from liger_kernel.transformers.functional import liger_fused_linear_cross_entropy

    a, b = F.normalize(a, dim=1), F.normalize(b, dim=1)
    label = torch.arange(len(a), device=a.device)
    rows = liger_fused_linear_cross_entropy(a / temperature, b, label)
    return (rows + liger_fused_linear_cross_entropy(b / temperature, a, label)) / 2


def siglip(a, b, temperature):
    """SigLIP's loss on the whole matrix, as open_clip writes it for one process."""
    a, b = F.normalize(a, dim=1), F.normalize(b, dim=1)
    s = a @ b.T / temperature + SIGLIP_BIAS
    sign = 2 * torch.eye(len(a), device=a.device, dtype=s.dtype) - 1
    return -F.logsigmoid(sign * s).sum(dtype=torch.float32) / len(a)


def siglip_kernel(a, b, temperature):
    """siglip-kernel, by what its router picks for the type of the rows."""
    from siglip_kernel import fused_siglip_loss

    a, b = F.normalize(a, dim=1), F.normalize(b, dim=1)
    scale, bias = _scalars(a.device, -math.log(temperature), SIGLIP_BIAS)
    return fused_siglip_loss(a, b, scale, bias)


@functools.lru_cache
def _scalars(device, *values):
    """On the device, once: to bring them there would wait for all that is queued."""
    return [torch.tensor(value, device=device) for value in values]


SIGLIP_BIAS = -10.0
"""Where the authors start."""

LOSSES = {
    "nt_xent": nt_xent,
    "metric_learning": metric_learning_nt_xent,
    "clip": clip,
    "inf_cl": inf_cl,
    "cut_cross_entropy": cut_cross_entropy,
    "liger": liger,
    "siglip": siglip,
    "siglip_kernel": siglip_kernel,
}
OPTIONAL = {
    "metric_learning": "pytorch_metric_learning",
    "inf_cl": "inf_cl",
    "cut_cross_entropy": "cut_cross_entropy",
    "liger": "liger_kernel",
    "siglip_kernel": "siglip_kernel",
}
"""Losses of packages that may not be there, and their modules."""


class Worker:
    """What one process holds: a device, the two arrays of rows, training steps."""

    def __init__(self, device: str):
        self.training = {}
        self.device = torch.device(device)
        # Beyond it PyTorch runs what is compiled for one more size as it is.
        torch._dynamo.config.recompile_limit = 64
        if self.device.type == "cuda":
            # As XLA does by default: float32 products in TF32.
            torch.set_float32_matmul_precision("high")
        self.arrays = []

    def hello(self, request, payload):
        """Versions and threads, and which optional peers are there."""
        names = importlib.metadata.packages_distributions()
        found = {
            loss: importlib.metadata.version(names[module][0])
            for loss, module in OPTIONAL.items()
            if module in names
        }
        return {
            "torch": torch.__version__,
            "packages": found,
            "threads": torch.get_num_threads(),
            "device": str(self.device),
        }, []

    def load(self, request, payload):
        """Keeps the arrays sent, in the place of those before; frees what is free."""
        self.arrays = [
            torch.tensor(x, device=self.device, requires_grad=True) for x in payload
        ]
        self._release()
        return {}, []

    def check(self, request, payload):
        """Value and gradients of one loss; compiles it on the way."""
        value, grads = _step(request)(*self.arrays)
        host = [g.float().cpu().numpy() for g in grads]
        return {"value": float(value.detach())}, host

    def time(self, request, payload):
        """Mean seconds of one call over `calls`."""
        step = _step(request)
        self._wait()
        start = time.perf_counter()
        for _ in range(request["calls"]):
            step(*self.arrays)
        self._wait()
        return {"seconds": (time.perf_counter() - start) / request["calls"]}, []

    def prepare_step(self, request, payload):
        """Builds, and compiles where asked to, the training step of a configuration."""
        import torch_step

        torch.backends.cudnn.benchmark = True
        start = time.perf_counter()
        config = request["config"]
        training = torch_step.Step(config, self.device, request["compile"], nt_xent)
        for _ in range(3):
            value = float(training.step())
        self.training[config["name"]] = training
        self._release()
        return {"loss": value, "seconds": time.perf_counter() - start}, []

    def time_step(self, request, payload):
        """Mean seconds of one step, or of its augmentation, over `calls`."""
        run = getattr(self.training[request["name"]], request["part"])
        self._wait()
        start = time.perf_counter()
        for _ in range(request["calls"]):
            run()
        self._wait()
        return {"seconds": (time.perf_counter() - start) / request["calls"]}, []

    def drop_step(self, request, payload):
        """Frees the memory of a training step."""
        self.training.pop(request["name"], None)
        self._release()
        return {}, []

    def _release(self):
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _wait(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def _step(request):
    return _make_step(
        request["loss"], request["temperature"], request["dtype"], request["compile"]
    )


@functools.lru_cache
def _make_step(loss, temperature, dtype, compiled):
    """`(a, b) -> (value, gradients)`; products in `dtype`, gradients in float32."""
    cast = getattr(torch, dtype)

    def value(a, b):
        return LOSSES[loss](a.to(cast), b.to(cast), temperature)

    if compiled:
        value = torch.compile(value, dynamic=False)

    def step(a, b):
        found = value(a, b)
        return found, torch.autograd.grad(found, (a, b))

    return step


def serve(worker, requests, replies):
    """Answers until the other side closes the pipe."""
    for line in iter(requests.readline, b""):
        request = json.loads(line)
        payload = [
            np.frombuffer(requests.read(4 * math.prod(shape)), np.float32).reshape(
                shape
            )
            for shape in request.get("shapes", [])
        ]
        try:
            reply, arrays = getattr(worker, request["do"])(request, payload)
        except Exception as error:
            # Out of memory, a missing package: the other side decides what it means.
            reply, arrays = {"error": f"{type(error).__name__}: {error}"}, []
        shapes = [list(x.shape) for x in arrays]
        replies.write(json.dumps(reply | {"shapes": shapes}).encode() + b"\n")
        for x in arrays:
            replies.write(np.ascontiguousarray(x, np.float32).tobytes())
        replies.flush()


if __name__ == "__main__":
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints must not break the protocol
    serve(Worker(sys.argv[1]), sys.stdin.buffer, out)
