"""Matrix products in float32, or with BF16 inputs and float32 results, forward and backward (four times as fast on
processors with BF16 matrix units; the official models are computed so)."""

import torch
import torch.nn.functional as F

BF16 = torch.bfloat16


class _Linear(torch.autograd.Function):
    """x [..., K], w [M, K] -> [..., M]."""

    @staticmethod
    def forward(ctx, x, w):
        x, w = x.to(BF16), w.to(BF16)
        ctx.save_for_backward(x, w)
        return F.linear(x, w).float()

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        g = g.to(BF16)
        gx = torch.matmul(g, w).float() if ctx.needs_input_grad[0] else None
        gw = torch.matmul(g.flatten(0, -2).t(), x.flatten(0, -2)).float() if ctx.needs_input_grad[1] else None
        return gx, gw


class _Matmul(torch.autograd.Function):
    """a [..., N, K], b [..., K, M], equal leading dimensions -> [..., N, M]."""

    @staticmethod
    def forward(ctx, a, b):
        a, b = a.to(BF16), b.to(BF16)
        ctx.save_for_backward(a, b)
        return torch.matmul(a, b).float()

    @staticmethod
    def backward(ctx, g):
        a, b = ctx.saved_tensors
        g = g.to(BF16)
        return torch.matmul(g, b.transpose(-1, -2)).float(), torch.matmul(a.transpose(-1, -2), g).float()


def linear(x, w, bf16: bool):
    return _Linear.apply(x, w) if bf16 else F.linear(x, w)


def matmul(a, b, bf16: bool):
    return _Matmul.apply(a, b) if bf16 else torch.matmul(a, b)
