"""The PyTorch side of `profiling.agreement`: what other libraries make of our inputs.

Run by `peers.TorchPeer` like `worker.py`, whose protocol it speaks; computes in
float64. A library is a package that is installed, or a folder with the authors' code:
of that, the functions and classes named are read from its files, and nothing else in
these files is run.
"""

import importlib
import importlib.metadata
import os
import pathlib
import subprocess
import sys

import torch
import torch_encoders
import torch_losses
import torch_masks
import torch_training
import worker

FUNCTIONS = torch_losses.FUNCTIONS | torch_masks.FUNCTIONS
FUNCTIONS |= torch_training.FUNCTIONS | torch_encoders.FUNCTIONS
PACKAGES = {
    "torch": "torch",
    "lightly": "lightly",
    "timm": "timm",
    "torchvision": "torchvision",
    "pytorch-metric-learning": "pytorch_metric_learning",
    "open_clip_torch": "open_clip",
    "info-nce-pytorch": "info_nce",
}
"""Distributions, and the modules they bring."""


class Agreement:
    """Answers with the value of one function, and its gradients."""

    def hello(self, request, payload):
        """Versions of the packages, and commits of the authors' code, that are here."""
        found = {}
        for name, module in PACKAGES.items():
            try:
                importlib.import_module(module)
                found[name] = importlib.metadata.version(name)
            except (ImportError, RuntimeError) as error:
                print(f"{name}: {error}", file=sys.stderr)
        folder = os.environ.get("RL_JAX_AUTHORS")
        for path in sorted(pathlib.Path(folder).iterdir()) if folder else []:
            if path.is_dir():
                found[path.name] = _commit(path)
        return {"torch": torch.__version__, "packages": found}, []

    def compare(self, request, payload):
        """The value at the arrays sent, and the gradients by the first `wrt` of them.

        Without any `wrt` what comes back is the array itself.
        """
        given = [torch.tensor(x, dtype=torch.float64) for x in payload]
        by = given[: request["wrt"]]
        for x in by:
            x.requires_grad_()
        value = FUNCTIONS[request["name"]](*given, **request["options"])
        if not by:
            return {}, [value.detach().numpy()]
        grads = torch.autograd.grad(value.sum(), by)
        return {"value": float(value.detach().sum())}, [g.numpy() for g in grads]


def _commit(path: pathlib.Path) -> str:
    """The commit of a clone, or the empty string."""
    command = ["git", f"--git-dir={path / '.git'}", "rev-parse", "--short", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return ""
    return done.stdout.strip()


if __name__ == "__main__":
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints must not break the protocol
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    torch_losses.alone()
    worker.serve(Agreement(), sys.stdin.buffer, out)
