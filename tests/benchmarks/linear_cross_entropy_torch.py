"""The loss of `linear_cross_entropy.py` in PyTorch, from all logits."""

import resource

import torch
from worker import serve


def make(settings, arrays):
    """A step that keeps its gradients."""
    tokens, width, size = (settings[name] for name in ("tokens", "width", "vocabulary"))
    generator = torch.Generator().manual_seed(0)
    shapes = [tokens, width], [size, width], [size]
    inputs = [torch.randn(s, generator=generator).mul_(width**-0.5) for s in shapes]
    for x in inputs:
        x.requires_grad_()
    hidden, matrix, bias = inputs
    labels = torch.arange(tokens) * 7919 % size

    def step():
        for x in inputs:
            x.grad = None
        logits = torch.nn.functional.linear(hidden, matrix, bias)
        loss = torch.nn.functional.cross_entropy(logits, labels)
        (logits.argmax(-1) == labels).sum()
        loss.backward()
        return loss.detach()

    if not settings.get("memory"):
        return step
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def risen():
        step()
        return torch.tensor((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)

    return risen


if __name__ == "__main__":
    serve({"torch": make})
