"""The optimiser: Muon with hybrid Newton-Schulz for matrices, AdamW for the rest.

Muon: M = mu M + G; O = NS(mu M + G) * sqrt(max(n, m)) * gamma; W = W (1 - lr wd) - lr O. The Newton-Schulz iteration
takes 8 steps that drive singular values towards 1 quickly and 2 that settle them there. Source: "mHC and Muon" of the
model description. AdamW (0.9, 0.95, eps 1e-20) serves embedding, head, norms, mHC biases and gates, and all vectors.
"""

import math

import torch

FAST, SETTLE = (3.4445, -4.7750, 2.0315), (2.0, -1.5, 0.5)


def newton_schulz(g: torch.Tensor, fast: int = 8, settle: int = 2, bf16: bool = False) -> torch.Tensor:
    """[k, n, m] -> the same with singular values near 1, singular vectors kept."""
    x = g / (g.norm(dim=(-2, -1), keepdim=True) + 1e-12)
    x = x.to(torch.bfloat16) if bf16 else x
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.transpose(-2, -1)
    for a, b, c in [FAST] * fast + [SETTLE] * settle:
        s = torch.bmm(x, x.transpose(-2, -1))
        x = torch.baddbmm(x, torch.baddbmm(s, s, s, beta=b, alpha=c), x, beta=a)
    return (x.transpose(-2, -1) if tall else x).float()


def is_muon(name: str, parameter: torch.Tensor) -> bool:
    """Matrices of projections and experts; not embedding, head, ape, router gate, or anything of mHC."""
    excluded = ("embed.", "head.", "hc_", ".ape", ".gate.", "weights_proj")
    return parameter.dim() >= 2 and not any(part in name for part in excluded)


class Optimizer:
    """Muon and AdamW over one network. The learning rates are those at full schedule; step() takes the factor."""

    def __init__(self, net, muon_lr=0.02, adam_lr=3e-3, momentum=0.95, gamma=0.18, weight_decay=0.1, bf16=False):
        self.muon_lr, self.adam_lr = muon_lr, adam_lr
        self.momentum, self.gamma, self.weight_decay = momentum, gamma, weight_decay
        self.bf16 = bf16
        named = list(net.named_parameters())
        self.matrices = {n: p for n, p in named if is_muon(n, p)}
        self.buffers = {n: torch.zeros_like(p) for n, p in self.matrices.items()}
        rest = [(n, p) for n, p in named if n not in self.matrices]
        decay = [(n, p) for n, p in rest if p.dim() >= 2]
        plain = [(n, p) for n, p in rest if p.dim() < 2]
        self.adam_names = [n for n, _ in decay + plain]
        self.adam = torch.optim.AdamW([{"params": [p for _, p in decay], "weight_decay": weight_decay},
                                       {"params": [p for _, p in plain], "weight_decay": 0.0}],
                                      lr=adam_lr, betas=(0.9, 0.95), eps=1e-20)

    @torch.no_grad()
    def step(self, factor: float):
        for group in self.adam.param_groups:
            group["lr"] = self.adam_lr * factor
        self.adam.step()
        lr = self.muon_lr * factor
        for names in self._groups():
            self._step_group(names, lr)

    def _groups(self):
        """Names of matrices that had a gradient, those of one shape together: one batched product serves them."""
        groups = {}
        for name, p in self.matrices.items():
            if p.grad is not None:
                groups.setdefault(tuple(p.shape[-2:]), []).append(name)
        return groups.values()

    def _step_group(self, names, lr: float):
        updates = []
        for name in names:
            p, m = self.matrices[name], self.buffers[name]
            m.mul_(self.momentum).add_(p.grad)
            updates.append((p.grad + self.momentum * m).reshape(-1, *p.shape[-2:]))
        ortho = newton_schulz(torch.cat(updates), bf16=self.bf16)
        ortho *= math.sqrt(max(ortho.shape[-2:])) * self.gamma
        for name, update in zip(names, ortho.split([len(u) for u in updates])):
            p = self.matrices[name]
            p.mul_(1 - lr * self.weight_decay).add_(update.reshape(p.shape), alpha=-lr)

    def zero_grad(self, net):
        for p in net.parameters():
            p.grad = None

    def state_dict(self):
        return {"adam": self.adam.state_dict(), "muon": self.buffers}

    def load_state_dict(self, state):
        self.adam.load_state_dict(state["adam"])
        for name, buffer in state["muon"].items():
            self.buffers[name].copy_(buffer)
