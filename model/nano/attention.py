"""Attention of V4: sliding window plus compressed entries, one key that is also the value, a sink.

Shapes: B batch, T tokens, D hidden, H heads, d head_dim, R rope dims, N compressed entries, W window.
Positions [B, T] rise strictly; a jump to a later position may stand where t mod 128 = 0, so that blocks are whole.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from model.nano import quantise
from model.nano.products import linear, matmul, rms
from model.nano.config import Config
from model.nano.quantise import Numerics

OVERLAP_RATIO = 4
MASKED = -1e30


class RmsNorm(nn.Module):
    def __init__(self, width: int, eps: float, numerics: Numerics):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps, self.numerics = eps, numerics

    def forward(self, x):
        w = quantise.fake_bf16(self.weight) if self.numerics.weights else self.weight
        return rms(x, self.eps) * w


class Linear(nn.Module):
    """y = W x; W [out, in] stored as FP8 tiles ("fp8") or BF16 ("bf16")."""

    def __init__(self, inputs: int, outputs: int, numerics: Numerics, stored: str = "fp8", gain: float = 1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) * (gain / math.sqrt(inputs)))
        self.numerics, self.stored = numerics, stored

    def stored_weight(self):
        if not self.numerics.weights:
            return self.weight
        rounding = quantise.fake_fp8_tiles if self.stored == "fp8" else quantise.fake_bf16
        return rounding(self.weight)

    def forward(self, x):
        return linear(x, self.stored_weight(), self.numerics.bf16_products)


class Rope(nn.Module):
    """Rotary table of one kind of layer: plain, or YaRN on layers with a compressor. No learnt parameters."""

    def __init__(self, config: Config, yarn: bool):
        super().__init__()
        dim = config.qk_rope_head_dim
        theta = config.compress_rope_theta if yarn else config.rope_theta
        freq = 1.0 / (theta ** (torch.arange(0, dim, 2, dtype=torch.float32) / dim))
        scaling = config.rope_scaling
        if yarn and scaling and scaling["factor"] != 1:
            orig = scaling["original_max_position_embeddings"]

            def corner(beta):
                return dim * math.log(orig / (2 * math.pi * beta)) / (2 * math.log(theta))
            low = max(math.floor(corner(scaling["beta_fast"])), 0)
            high = min(math.ceil(corner(scaling["beta_slow"])), dim - 1)
            high += 0.001 if low == high else 0
            smooth = 1 - ((torch.arange(dim // 2) - low) / (high - low)).clamp(0, 1)
            freq = freq / scaling["factor"] * (1 - smooth) + freq * smooth
        self.register_buffer("freq", freq, persistent=False)

    def table(self, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """positions [...] -> cos, sin [..., R/2]."""
        angle = positions[..., None].float() * self.freq
        return angle.cos(), angle.sin()


def rotate(x: torch.Tensor, table, inverse: bool = False) -> torch.Tensor:
    """x [..., d]: its last R dims as interleaved pairs, turned by table (cos, sin) [..., R/2]."""
    cos, sin = table
    dims = 2 * cos.shape[-1]
    a, b = x[..., -dims:].unflatten(-1, (-1, 2)).unbind(-1)
    if inverse:
        sin = -sin
    turned = torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2)
    return torch.cat([x[..., :-dims], turned], -1)


def hadamard(dim: int) -> torch.Tensor:
    """Sylvester matrix [dim, dim], scaled to be orthonormal."""
    h = torch.ones(1, 1)
    while h.shape[0] < dim:
        h = torch.cat([torch.cat([h, h], 1), torch.cat([h, -h], 1)], 0)
    return h * dim ** -0.5


class Compressor(nn.Module):
    """Pools blocks of `ratio` tokens into entries of width d; ratio 4 overlaps with the block before."""

    def __init__(self, config: Config, ratio: int, d: int, numerics: Numerics):
        super().__init__()
        self.ratio, self.d, self.overlap = ratio, d, ratio == OVERLAP_RATIO
        width = 2 * d if self.overlap else d
        self.ape = nn.Parameter(torch.zeros(ratio, width))
        self.wkv = Linear(config.hidden_size, width, numerics, "bf16")
        self.wgate = Linear(config.hidden_size, width, numerics, "bf16")
        self.norm = RmsNorm(d, config.rms_norm_eps, numerics)

    def forward(self, x, positions, rope: Rope):
        """x [B, T, D] -> entries [B, N, d] with rotary at each block's first position."""
        batch, tokens, _ = x.shape
        n, r, d = tokens // self.ratio, self.ratio, self.d
        x = x[:, :n * r]
        kv = self.wkv(x).view(batch, n, r, -1)
        score = self.wgate(x).view(batch, n, r, -1) + self.ape
        if self.overlap:
            kv, score = self._with_block_before(kv, 0.0), self._with_block_before(score, MASKED)
        pooled = (kv * score.softmax(2)).sum(2)
        return rotate(self.norm(pooled), rope.table(positions[:, :n * r:r]))

    def _with_block_before(self, rows, fill: float):
        """[B, N, 4, 2d] -> [B, N, 8, d]: the block before with its first half, this block with its second."""
        before = F.pad(rows[:, :-1, :, :self.d], (0, 0, 0, 0, 1, 0), value=fill)
        return torch.cat([before, rows[..., self.d:]], 2)


class Indexer(nn.Module):
    """Scores compressed entries cheaply and selects the best."""

    def __init__(self, config: Config, numerics: Numerics):
        super().__init__()
        self.heads, self.d, self.topk = config.index_n_heads, config.index_head_dim, config.index_topk
        self.numerics = numerics
        self.wq_b = Linear(config.q_lora_rank, self.heads * self.d, numerics)
        self.weights_proj = Linear(config.hidden_size, self.heads, numerics, "bf16")
        self.compressor = Compressor(config, OVERLAP_RATIO, self.d, numerics)
        self.register_buffer("hadamard", hadamard(self.d), persistent=False)

    def _code(self, x):
        x = x @ self.hadamard
        return quantise.fake_fp4(x) if self.numerics.index else x

    def scores(self, x, qr, positions, rope: Rope):
        """x [B, T, D], qr [B, T, q_lora] -> [B, T, N], before the mask of visible entries."""
        batch, tokens, _ = x.shape
        cos, sin = rope.table(positions)
        q = self.wq_b(qr).view(batch, tokens, self.heads, self.d)
        q = self._code(rotate(q, (cos[:, :, None], sin[:, :, None])))
        keys = self._code(self.compressor(x, positions, rope))
        w = self.weights_proj(x) * (self.d * self.heads) ** -0.5
        dots = matmul(q.flatten(1, 2), keys.transpose(1, 2), self.numerics.bf16_products).view(batch, tokens, self.heads, -1)
        return (F.relu(dots) * w[..., None]).sum(2)

    def select(self, scores, visible):
        """[B, T, N] -> bool [B, T, N]: the top-k of the visible entries."""
        k = min(self.topk, scores.shape[-1])
        masked = scores.masked_fill(~visible, MASKED)
        if self.numerics.exact_ties:
            order = torch.sort(masked, stable=True, dim=-1, descending=True).indices[..., :k]
        else:
            order = masked.topk(k, -1, sorted=False).indices
        return torch.zeros_like(visible).scatter_(-1, order, True) & visible


class Attention(nn.Module):
    def __init__(self, config: Config, ratio: int, numerics: Numerics):
        super().__init__()
        c = self.config = config
        self.ratio, self.numerics = ratio, numerics
        self.wq_a = Linear(c.hidden_size, c.q_lora_rank, numerics)
        self.q_norm = RmsNorm(c.q_lora_rank, c.rms_norm_eps, numerics)
        self.wq_b = Linear(c.q_lora_rank, c.num_attention_heads * c.head_dim, numerics)
        self.wkv = Linear(c.hidden_size, c.head_dim, numerics)
        self.kv_norm = RmsNorm(c.head_dim, c.rms_norm_eps, numerics)
        self.wo_a = Linear(c.num_attention_heads * c.head_dim // c.o_groups, c.o_groups * c.o_lora_rank, numerics)
        self.wo_b = Linear(c.o_groups * c.o_lora_rank, c.hidden_size, numerics, gain=0.5)
        self.attn_sink = nn.Parameter(torch.zeros(c.num_attention_heads))
        if ratio:
            self.compressor = Compressor(c, ratio, c.head_dim, numerics)
        if ratio == OVERLAP_RATIO:
            self.indexer = Indexer(c, numerics)
        self.rope = Rope(c, yarn=ratio != 0)
        self.dense_entries = False  # indexer warm-up: attend to all visible entries, selected or not
        self.index_loss = None      # of the last forward, when wanted

    def stored_entry(self, x):
        return quantise.fake_kv_entry(x, self.config.qk_rope_head_dim) if self.numerics.kv else x

    def forward(self, x, positions, want_index_loss: bool = False):
        """x [B, T, D], positions [B, T] -> [B, T, D]."""
        c = self.config
        batch, tokens, _ = x.shape
        cos, sin = self.rope.table(positions)
        per_head = (cos[:, :, None], sin[:, :, None])
        qr = self.q_norm(self.wq_a(x))
        q = self.wq_b(qr).view(batch, tokens, c.num_attention_heads, c.head_dim)
        q = rotate(rms(q, c.rms_norm_eps), per_head)
        kv = self.stored_entry(rotate(self.kv_norm(self.wkv(x)), (cos, sin)))
        entries, mask, scores = self._compressed(x, qr, positions)
        o, entry_mass = attend(q, kv, entries, mask, positions, self.attn_sink, c.sliding_window, c.head_dim ** -0.5,
                               self.numerics.bf16_products)
        if want_index_loss and scores is not None:
            self.index_loss = index_loss(scores, entry_mass, mask)
        return self._project(rotate(o, per_head, inverse=True))

    def _compressed(self, x, qr, positions):
        """Entries [B, N, d], the mask of those each token attends to [B, T, N], index scores or None."""
        tokens = x.shape[1]
        if not self.ratio or tokens < self.ratio:
            return None, None, None
        entries = self.stored_entry(self.compressor(x, positions, self.rope))
        count = (torch.arange(tokens) + 1) // self.ratio
        visible = torch.arange(entries.shape[1])[None] < count[:, None]
        mask = visible[None].expand(x.shape[0], -1, -1)
        if self.ratio != OVERLAP_RATIO:
            return entries, mask, None
        scores = self.indexer.scores(x.detach(), qr.detach(), positions, self.rope)
        if not self.dense_entries:
            mask = self.indexer.select(scores.detach(), mask)
        return entries, mask, scores

    def _project(self, o):
        """o [B, T, H, d] -> [B, T, D] through the grouped low-rank output."""
        c = self.config
        batch, tokens = o.shape[:2]
        o = o.reshape(batch * tokens, c.o_groups, -1).transpose(0, 1)                # [G, B*T, H*d/G]
        wo_a = self.wo_a.stored_weight().view(c.o_groups, c.o_lora_rank, -1)
        low = matmul(o, wo_a.transpose(1, 2), self.numerics.bf16_products).transpose(0, 1).reshape(batch, tokens, -1)
        return self.wo_b(low)


def attend(q, kv, entries, mask, positions, sink, window: int, scale: float, bf16: bool = False):
    """Softmax over window rows, compressed entries and a sink that takes mass but gives nothing.

    q [B, T, H, d]; kv [B, T, d]; entries [B, N, d] or None; mask bool [B, T, N]; sink [H].
    Returns o [B, T, H, d] and the mass on each entry, summed over heads [B, T, N], without gradient (or None).
    The window is computed in chunks of W queries against 2W keys.
    """
    batch, tokens, heads, d = q.shape
    pad = -tokens % window
    chunks = (tokens + pad) // window
    q = F.pad(q, (0, 0, 0, 0, 0, pad)).view(batch, chunks, window, heads, d).transpose(2, 3)
    keys = F.pad(kv, (0, 0, 0, pad)).view(batch, chunks, window, d)
    keys = torch.cat([F.pad(keys[:, :-1], (0, 0, 0, 0, 1, 0)), keys], 2)             # [B, C, 2W, d]
    visible = window_mask(positions, window, chunks)                                # [B, C, W, 2W]
    rows = q.reshape(batch, chunks, heads * window, d)
    near = matmul(rows, keys.transpose(2, 3), bf16).view(batch, chunks, heads, window, -1) * scale
    parts = [near.masked_fill(~visible[:, :, None], MASKED)]
    if entries is not None:
        far = matmul(rows.reshape(batch, -1, d), entries.transpose(1, 2), bf16)
        far = far.view(batch, chunks, heads, window, -1) * scale
        chunk_mask = F.pad(mask, (0, 0, 0, pad)).view(batch, chunks, 1, window, -1)
        parts.append(far.masked_fill(~chunk_mask, MASKED))
    parts.append(sink.view(1, 1, heads, 1, 1).expand(batch, chunks, heads, window, 1))
    p = torch.cat(parts, -1).softmax(-1)
    o = matmul(p[..., :2 * window].reshape(batch, chunks, heads * window, -1), keys, bf16)
    mass = None
    if entries is not None:
        p_far = p[..., 2 * window:-1]
        o = o + matmul(p_far.reshape(batch, -1, entries.shape[1]), entries, bf16).view_as(o)
        mass = p_far.detach().sum(2).reshape(batch, chunks * window, -1)[:, :tokens]
    o = o.view(batch, chunks, heads, window, d).transpose(2, 3).reshape(batch, -1, heads, d)
    return o[:, :tokens], mass


def window_mask(positions, window: int, chunks: int):
    """[B, T] -> bool [B, C, W, 2W]: key position in (p - W, p], by position, so that a jump empties the window."""
    batch, tokens = positions.shape
    pad = chunks * window - tokens
    here = F.pad(positions, (0, pad), value=-1).view(batch, chunks, window)
    before = F.pad(here[:, :-1], (0, 0, 1, 0), value=-1)
    keys = torch.cat([before, here], 2)[:, :, None]
    query = here[..., None]
    return (keys <= query) & (keys > query - window) & (keys >= 0)


def index_loss(scores, mass, mask):
    """KL(attention mass over the attended entries || softmax of their index scores), mean over tokens, weighted
    by the mass on entries. scores [B, T, N] with gradient; mass without; mask the entries that took part."""
    total = mass.sum(-1, keepdim=True)
    target = mass / total.clamp_min(1e-9)
    log_q = scores.masked_fill(~mask, MASKED).log_softmax(-1)
    kl = (target * (target.clamp_min(1e-9).log() - log_q)).masked_fill(~mask, 0.0).sum(-1)
    return (kl * total[..., 0]).sum() / total.sum().clamp_min(1.0)
