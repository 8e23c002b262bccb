"""Products with their own gradients: matrix products in float32, or with BF16 inputs and float32 results (four times
as fast on processors with BF16 matrix units; the official models are computed so), and two memory-bound steps."""

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


class _Rms(torch.autograd.Function):
    """x [..., D] / sqrt(mean(x^2) + eps): fewer passes over memory than the plain expression."""

    @staticmethod
    def forward(ctx, x, eps):
        r = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        y = x * r
        ctx.save_for_backward(y, r)
        return y

    @staticmethod
    def backward(ctx, g):
        y, r = ctx.saved_tensors
        mean = (g * y).mean(-1, keepdim=True)
        return torch.addcmul(g, y, mean, value=-1).mul_(r), None


class _MixStreams(torch.autograd.Function):
    """out[k] = post[k] y + sum_j comb[j, k] h[j]; y [B, T, D], h [B, T, S, D], post [B, T, S], comb [B, T, S, S]."""

    @staticmethod
    def forward(ctx, y, h, post, comb):
        ctx.save_for_backward(y, h, post, comb)
        out = torch.empty_like(h)
        for k in range(h.shape[2]):
            torch.mul(y, post[..., k, None], out=out[..., k, :])
            for j in range(h.shape[2]):
                out[..., k, :].addcmul_(h[..., j, :], comb[..., j, k, None])
        return out

    @staticmethod
    def backward(ctx, g):
        y, h, post, comb = ctx.saved_tensors
        gy, gh = torch.zeros_like(y), torch.zeros_like(h)
        gpost, gcomb = torch.empty_like(post), torch.empty_like(comb)
        scratch = torch.empty_like(y)
        for k in range(h.shape[2]):
            gk = g[..., k, :]
            gy.addcmul_(gk, post[..., k, None])
            gpost[..., k] = torch.mul(gk, y, out=scratch).sum(-1)
            for j in range(h.shape[2]):
                gh[..., j, :].addcmul_(gk, comb[..., j, k, None])
                gcomb[..., j, k] = torch.mul(gk, h[..., j, :], out=scratch).sum(-1)
        return gy, gh, gpost, gcomb


def rms(x, eps: float):
    """x [..., D] over its root mean square."""
    return _Rms.apply(x, eps)


mix_streams = _MixStreams.apply
