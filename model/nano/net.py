"""DeepSeek-V4 in PyTorch: batched, differentiable, driven by the fields of an official config.json.

Module and parameter names are those of the official checkpoints, except that the routed experts of a layer are
stacked (ffn.experts.w1 [E, I, D]); checkpoint.py maps them. Source of every step: the forward pass of the model
description, which model/graph.cc follows too. Shapes: B batch, T tokens, S streams, D hidden, V vocabulary.
"""

import contextlib
import math

import torch
import torch.nn.functional as F
from torch import nn

from model.nano import fused, quantise
from model.nano.attention import Attention, Linear, RmsNorm
from model.nano.config import Config
from model.nano.products import linear, mix_streams, rms
from model.nano.quantise import Numerics


class HyperConnection(nn.Module):
    """mHC around one sublayer: mixes S streams into its input and its output back into the streams."""

    def __init__(self, config: Config):
        super().__init__()
        s, d = config.hc_mult, config.hidden_size
        self.config = config
        self.fn = nn.Parameter(torch.randn((2 + s) * s, s * d) * 0.01)
        self.scale = nn.Parameter(torch.full((3,), 0.1))
        base = torch.zeros((2 + s) * s)
        base[2 * s:] = (torch.eye(s) * 4).flatten()  # streams start almost apart
        self.base = nn.Parameter(base)

    def pre(self, h):
        """h [B, T, S, D] -> y [B, T, D], post [B, T, S], comb [B, T, S source, S destination]."""
        s, eps = self.config.hc_mult, self.config.hc_eps
        m = F.linear(rms(h.flatten(2), self.config.rms_norm_eps), self.fn)
        pre = torch.sigmoid(m[..., :s] * self.scale[0] + self.base[:s]) + eps
        post = 2 * torch.sigmoid(m[..., s:2 * s] * self.scale[1] + self.base[s:2 * s])
        comb = (m[..., 2 * s:] * self.scale[2] + self.base[2 * s:]).unflatten(-1, (s, s))
        comb = sinkhorn(comb, self.config.hc_sinkhorn_iters, eps)
        return (pre[..., None] * h).sum(2), post, comb

    @staticmethod
    def post(y, h, post, comb):
        return mix_streams(y, h, post, comb)


def sinkhorn(m, rounds: int, eps: float):
    """[..., S, S] -> nearly doubly stochastic: row softmax, a column norm, then rounds - 1 of rows and columns."""
    c = m.softmax(-1) + eps
    c = c / (c.sum(-2, keepdim=True) + eps)
    for _ in range(rounds - 1):
        c = c / (c.sum(-1, keepdim=True) + eps)
        c = c / (c.sum(-2, keepdim=True) + eps)
    return c


class HyperHead(nn.Module):
    """Streams to one vector before a head."""

    def __init__(self, config: Config):
        super().__init__()
        s = config.hc_mult
        self.config = config
        self.fn = nn.Parameter(torch.randn(s, s * config.hidden_size) * 0.01)
        self.scale = nn.Parameter(torch.full((1,), 0.1))
        self.base = nn.Parameter(torch.zeros(s))

    def forward(self, h):
        m = F.linear(rms(h.flatten(2), self.config.rms_norm_eps), self.fn)
        pre = torch.sigmoid(m * self.scale + self.base) + self.config.hc_eps
        return (pre[..., None] * h).sum(2)


class Experts(nn.Module):
    """Weights of n experts: w1 gate and w3 up [n, I, D], w2 down [n, D, I]."""

    def __init__(self, n: int, config: Config):
        super().__init__()
        d, i = config.hidden_size, config.moe_intermediate_size
        self.w1 = nn.Parameter(torch.randn(n, i, d) / math.sqrt(d))
        self.w2 = nn.Parameter(torch.randn(n, d, i) * 0.5 / math.sqrt(i))
        self.w3 = nn.Parameter(torch.randn(n, i, d) / math.sqrt(d))


class MoE(nn.Module):
    def __init__(self, config: Config, hashed: bool, numerics: Numerics):
        super().__init__()
        self.config, self.numerics, self.hashed = config, numerics, hashed
        self.gate = nn.Module()
        self.gate.weight = nn.Parameter(torch.randn(config.n_routed_experts, config.hidden_size) * 0.02)
        if hashed:
            table = torch.zeros(config.vocab_size, config.num_experts_per_tok, dtype=torch.int64)
            self.gate.register_buffer("tid2eid", table)
        else:
            self.gate.register_buffer("bias", torch.zeros(config.n_routed_experts))
        self.experts = Experts(config.n_routed_experts, config)
        self.shared_experts = Experts(1, config)
        self.register_buffer("load", torch.zeros(config.n_routed_experts), persistent=False)

    def forward(self, x, tokens):
        """x [B, T, D], tokens [B, T] -> [B, T, D]."""
        shape, x = x.shape, x.flatten(0, 1)
        chosen, weight = self._route(x, tokens.flatten())
        w1, w2, w3 = self._weights(self.experts, quantise.fake_fp4)
        y = self._expert(x, None, *(w[0] for w in self._weights(self.shared_experts, quantise.fake_fp8_tiles)), False)
        for e in range(self.config.n_routed_experts):
            rows, slot = torch.where(chosen == e)
            if len(rows):
                y = y.index_add(0, rows, self._expert(x[rows], weight[rows, slot, None], w1[e], w2[e], w3[e], True))
        return y.view(shape)

    def _weights(self, experts: Experts, rounding):
        if not self.numerics.weights:
            return experts.w1, experts.w2, experts.w3
        return tuple(rounding(w) for w in (experts.w1, experts.w2, experts.w3))

    def _expert(self, x, weight, w1, w2, w3, fp4: bool):
        limit = self.config.swiglu_limit
        rounding = quantise.fake_int8 if fp4 and self.numerics.activations else (lambda v: v)
        x = rounding(x)
        fast = self.numerics.bf16_products
        a = F.silu(linear(x, w1, fast).clamp(max=limit)) * linear(x, w3, fast).clamp(-limit, limit)
        return linear(rounding(a if weight is None else weight * a), w2, fast)

    def _route(self, x, tokens):
        """-> experts [B*T, k] ascending, weights [B*T, k]. Counts the load for balancing (balance())."""
        gate = quantise.fake_bf16(self.gate.weight) if self.numerics.weights else self.gate.weight
        scores = torch.sqrt(F.softplus(F.linear(x, gate)))
        k = self.config.num_experts_per_tok
        chosen = self.gate.tid2eid[tokens] if self.hashed else (scores + self.gate.bias).detach().topk(k, -1).indices
        chosen = chosen.sort(-1).values
        if self.training:
            self.load += torch.bincount(chosen.flatten(), minlength=len(self.load))
        picked = scores.gather(-1, chosen)
        return chosen, picked / picked.sum(-1, keepdim=True) * self.config.routed_scaling_factor

    @torch.no_grad()
    def balance(self, speed: float):
        """Moves the selection bias towards an even load since the last call; no loss term is needed."""
        if not self.hashed and self.load.sum() > 0:
            self.gate.bias += speed * torch.sign(self.load.mean() - self.load)
        self.load.zero_()


class Block(nn.Module):
    def __init__(self, config: Config, ratio: int, hashed: bool, numerics: Numerics):
        super().__init__()
        self.hc_attn, self.hc_ffn = HyperConnection(config), HyperConnection(config)
        self.attn_norm = RmsNorm(config.hidden_size, config.rms_norm_eps, numerics)
        self.ffn_norm = RmsNorm(config.hidden_size, config.rms_norm_eps, numerics)
        self.attn = Attention(config, ratio, numerics)
        self.ffn = MoE(config, hashed, numerics)

    def forward(self, h, tokens, positions, want_index_loss: bool = False):
        """h [B, T, S, D] -> the same. positions [B, T], or what fused.py makes of them."""
        if self.attn.numerics.fused:
            return fused.block(self, h, tokens, positions, want_index_loss)
        y, post, comb = self.hc_attn.pre(h)
        h = HyperConnection.post(self.attn(self.attn_norm(y), positions, want_index_loss), h, post, comb)
        y, post, comb = self.hc_ffn.pre(h)
        return HyperConnection.post(self.ffn(self.ffn_norm(y), tokens), h, post, comb)


class MtpBlock(Block):
    """The draft stage: entry t takes the final state at t and token t + 1, and predicts token t + 2."""

    def __init__(self, config: Config, numerics: Numerics):
        super().__init__(config, 0, False, numerics)
        d = config.hidden_size
        self.e_proj, self.h_proj = Linear(d, d, numerics), Linear(d, d, numerics)
        self.enorm = RmsNorm(d, config.rms_norm_eps, numerics)
        self.hnorm = RmsNorm(d, config.rms_norm_eps, numerics)
        self.norm = RmsNorm(d, config.rms_norm_eps, numerics)
        self.hc_head = HyperHead(config)

    def states(self, h, embedded, tokens, positions):
        """h [B, T, S, D], embedded and tokens of position t + 1 -> [B, T, D] before the shared head."""
        x = self.e_proj(self.enorm(embedded))[:, :, None] + self.h_proj(self.hnorm(h))
        return before_head(self, self(x, tokens, positions), self.attn.numerics)


def before_head(stage, h, numerics: Numerics):
    """[B, T, S, D] -> [B, T, D]: the streams mixed and normed by a stage's hc_head and norm."""
    if numerics.fused:
        return fused.head_states(stage.hc_head, stage.norm, h.flatten(0, 1), numerics).view(*h.shape[:2], -1)
    return stage.norm(stage.hc_head(h))


class Net(nn.Module):
    """tie: one matrix serves as embedding and head while training (both are written on export)."""

    def __init__(self, config: Config, numerics: Numerics | None = None, tie: bool = False):
        super().__init__()
        c, self.config, self.numerics = config, config, numerics or Numerics()
        self.embed = nn.Embedding(c.vocab_size, c.hidden_size)
        nn.init.normal_(self.embed.weight, std=0.5)
        self.layers = nn.ModuleList(
            Block(c, c.compress_ratios[i], i < c.num_hash_layers, self.numerics) for i in range(c.num_hidden_layers))
        self.hc_head = HyperHead(c)
        self.norm = RmsNorm(c.hidden_size, c.rms_norm_eps, self.numerics)
        self.head = nn.Linear(c.hidden_size, c.vocab_size, bias=False)
        self.mtp = nn.ModuleList(MtpBlock(c, self.numerics) for _ in range(c.num_nextn_predict_layers))
        if tie:
            self.head.weight = self.embed.weight
            nn.init.constant_(self.norm.weight, 0.2)  # logits start small
            for stage in self.mtp:
                nn.init.constant_(stage.norm.weight, 0.2)

    def _stored(self, w):
        return quantise.fake_bf16(w) if self.numerics.weights else w

    def roundings(self):
        """(parameter, rounding) of all that is stored in fewer bits than float32."""
        for module in self.modules():
            if isinstance(module, Linear):
                yield module.weight, quantise.tiles_fp8 if module.stored == "fp8" else quantise.round_bf16
            elif isinstance(module, RmsNorm):
                yield module.weight, quantise.round_bf16
            elif isinstance(module, MoE):
                yield module.gate.weight, quantise.round_bf16
                for experts, rounding in ((module.experts, quantise.groups_fp4), (module.shared_experts, quantise.tiles_fp8)):
                    yield from ((w, rounding) for w in (experts.w1, experts.w2, experts.w3))
        for weight in {id(w): w for w in (self.embed.weight, self.head.weight)}.values():
            yield weight, quantise.round_bf16

    @contextlib.contextmanager
    def stored_weights(self):
        """Inside, parameters hold the values that an export would store. Gradients taken inside serve the exact ones
        (straight-through); this is how the fused passes, which know no rounding of weights, are trained with it."""
        exact = [(p, p.data) for p, _ in self.roundings()]
        try:
            for p, rounding in self.roundings():
                p.data = rounding(p.data)
            yield
        finally:
            for p, data in exact:
                p.data = data

    def embedded(self, tokens):
        """[B, T] -> [B, T, D]."""
        return F.embedding(tokens, self._stored(self.embed.weight))

    def streams(self, tokens, positions=None, want_index_loss: bool = False, observe=None):
        """tokens [B, T] -> the state after the last layer [B, T, S, D]."""
        if positions is None:
            positions = torch.arange(tokens.shape[1])[None].expand_as(tokens)
        positions = self.places(positions)
        h = self.embedded(tokens)[:, :, None].expand(-1, -1, self.config.hc_mult, -1)
        for i, layer in enumerate(self.layers):
            h = layer(h, tokens, positions, want_index_loss)
            if observe:
                observe(i, h)
        return h

    def states(self, h):
        """[B, T, S, D] -> [B, T, D], what the head reads."""
        return before_head(self, h, self.numerics)

    def entropy(self, states, targets, weights):
        """states [M, D], targets [M], weights [M] -> sum of weight x cross-entropy; of each row the cross-entropy and
        whether the target is the likeliest."""
        if self.numerics.fused:
            return fused.entropy(states, self.head.weight, targets, weights)
        logits = self.logits(states)
        losses = F.cross_entropy(logits, targets, reduction="none")
        return (losses * weights).sum(), losses.detach(), logits.argmax(-1) == targets

    def places(self, positions):
        """Positions [B, T] in the form that the blocks take."""
        return fused.Places(positions, self.config.sliding_window) if self.numerics.fused else positions

    def logits(self, states):
        """[..., D] -> [..., V]."""
        return linear(states, self._stored(self.head.weight), self.numerics.bf16_products)

    def forward(self, tokens, positions=None):
        return self.logits(self.states(self.streams(tokens, positions)))

    def mtp_logits(self, tokens, h, positions=None):
        """tokens [B, T], h [B, T, S, D] -> [B, T - 1, V]: row t predicts token t + 2."""
        if positions is None:
            positions = torch.arange(tokens.shape[1])[None].expand_as(tokens)
        after = tokens[:, 1:]
        return self.logits(self.mtp[0].states(h[:, :-1], self.embedded(after), after, positions[:, :-1]))

    def index_losses(self):
        return [layer.attn.index_loss for layer in self.layers if layer.attn.index_loss is not None]

    def set_dense_entries(self, dense: bool):
        for layer in self.layers:
            layer.attn.dense_entries = dense

    def balance_experts(self, speed: float = 1e-3):
        for layer in [*self.layers, *self.mtp]:
            layer.ffn.balance(speed)
