"""The network's training pass with its many small steps fused: the same mathematics as net.py and attention.py, five
times as fast on one core. Matrix products stay PyTorch's; everything between them is a single pass in C++
(fused_streams.cc, fused_attention.cc), compiled on first use with g++ into build/nano/ and called through ctypes.

Used when Numerics.fused is set; the plain modules are its twin and the test of it (tests/fused_test.py). Of quantised
numerics they know the KV entries' (Numerics.kv); weights are rounded around them (Net.stored_weights). Activations are BF16 with bf16_products, else float32; all arithmetic inside is float32.
"""

import ctypes
import hashlib
import platform
import shutil
import subprocess
from pathlib import Path

import torch
from torch.autograd import Function

HERE = Path(__file__).parent
SOURCES = ("fused_streams.cc", "fused_attention.cc")
FLAGS = ["-std=c++20", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-ffinite-math-only", "-fPIC",
         "-shared", f"-I{HERE.parents[1]}"]
TABLE = 32  # floats of a rotary table a position
_library = None


def available(config) -> bool:
    return shutil.which("g++") is not None and supports(config)


def library() -> ctypes.CDLL:
    global _library
    if _library is None:
        text = "".join((HERE / name).read_text() for name in ("fused.h", "fused_products.h", *SOURCES))
        cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")), "")
        key = hashlib.sha256((text + cpu + " ".join(FLAGS[:-1])).encode()).hexdigest()[:16]
        path = HERE.parents[1] / "build" / "nano" / f"fused-{key}.so"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            made = path.with_suffix(".tmp")
            subprocess.run(["g++", *FLAGS, *(str(HERE / name) for name in SOURCES), "-o", str(made)], check=True)
            made.replace(path)
        _library = ctypes.CDLL(str(path))
        arch_prctl, ask_permission, tile_data = 158, 0x1023, 18  # Linux hands out the tile registers on request
        if platform.machine() == "x86_64" and ctypes.CDLL(None).syscall(arch_prctl, ask_permission, tile_data) == 0:
            _library.allow_matrix_units()
    return _library


def call(name: str, dtype, sizes, constants, tensors):
    """Calls one of the C++ passes. Tensors are contiguous, or None."""
    assert all(t is None or t.is_contiguous() for t in tensors), name
    function = getattr(library(), f"{name}_{'bf16' if dtype == torch.bfloat16 else 'f32'}")
    function((ctypes.c_int64 * len(sizes))(*sizes), (ctypes.c_double * max(1, len(constants)))(*constants),
             (ctypes.c_void_p * len(tensors))(*(None if t is None else t.data_ptr() for t in tensors)))


class Product(Function):
    """x [N, K], w float32 [M, K] -> x w^T [N, M] in x's type. Columns from `live` on send no gradient into x."""

    @staticmethod
    def forward(ctx, x, w, live=None):
        w = w.to(x.dtype)
        ctx.save_for_backward(x, w)
        ctx.live = live
        return torch.mm(x, w.t())

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        gx = torch.mm(g[:, :ctx.live], w[:ctx.live])
        return gx, torch.mm(g.t(), x).float(), None


class MixIn(Function):
    """h float32 [N, S, D] -> x [N, D], the normed mix that a sublayer reads, and its coefficients (pre, post, comb)
    [N, (2 + S) S]; with fn [S, S D] only pre: the mix before a head."""

    @staticmethod
    def forward(ctx, h, fn, scale, base, norm, rounds, eps, norm_eps, dtype):
        n, s, d = h.shape
        x, coef = torch.empty(n, d, dtype=dtype), torch.empty(n, len(fn))
        ctx.sizes, ctx.constants = (n, s, d, len(fn), rounds), (eps, norm_eps)
        call("mix_in", dtype, ctx.sizes, ctx.constants, [fn, scale, base, h, norm, x, coef])
        ctx.save_for_backward(h, fn, scale, base, norm, coef)
        return x, coef

    @staticmethod
    def backward(ctx, gx, gcoef):
        h, fn, scale, base, norm, coef = ctx.saved_tensors
        gh, gfn, gnorm = torch.zeros_like(h), torch.zeros_like(fn), torch.zeros_like(norm)
        gscale, gbase = torch.zeros_like(scale), torch.zeros_like(base)
        call("mix_in_backward", gx.dtype, ctx.sizes, ctx.constants,
             [fn, scale, base, h, norm, coef, gx.contiguous(), gcoef.contiguous(), gh, gfn, gscale, gbase, gnorm])
        return gh, gfn, gscale, gbase, gnorm, None, None, None, None


class MixOut(Function):
    """A sublayer's output y [N, D] into the streams h float32 [N, S, D]."""

    @staticmethod
    def forward(ctx, y, h, coef):
        out = torch.empty_like(h)
        call("mix_out", y.dtype, h.shape, (), [y, h, coef, out])
        ctx.save_for_backward(y, h, coef)
        return out

    @staticmethod
    def backward(ctx, g):
        y, h, coef = ctx.saved_tensors
        gy, gh, gcoef = torch.empty_like(y), torch.empty_like(h), torch.empty_like(coef)
        call("mix_out_backward", y.dtype, h.shape, (), [y, h, coef, g.contiguous(), gy, gh, gcoef])
        return gy, gh, gcoef


class Activate(Function):
    """u [N, row] (gate and up of each expert, the shared one last, then router logits, then padding) and the choice
    uint8 [N, E] -> the input of w2 [N, (E + 1) I], routed weights applied."""

    @staticmethod
    def forward(ctx, u, chosen, width, factor, limit):
        n, experts = chosen.shape
        a, weight = torch.empty(n, (experts + 1) * width, dtype=u.dtype), torch.empty(n, experts)
        ctx.sizes, ctx.constants = (n, experts, width, u.shape[1]), (factor, limit)
        call("activate", u.dtype, ctx.sizes, ctx.constants, [u, chosen, a, weight])
        ctx.save_for_backward(u, weight)
        return a

    @staticmethod
    def backward(ctx, ga):
        u, weight = ctx.saved_tensors
        gu = torch.empty_like(u)
        call("activate_backward", u.dtype, ctx.sizes, ctx.constants, [u, weight, ga.contiguous(), gu])
        return gu, None, None, None, None


class Read(Function):
    """What attention makes of the merged product z [B T, row] of its input: qr [B T, q_lora]; kv [B T, d], entries
    [B, N, d], index keys [B, N, di] and index weights [B T, hi], float32. `pools`: for compressor and indexer
    (ratio, width, overlap, first column); the two tables are of tokens and of entries."""

    @staticmethod
    def forward(ctx, z, batch, eps, tables, columns, pools, q_norm, kv_norm, *pool_weights):
        n, row = z.shape
        q_width, d, index_weights = columns
        qr, kv = torch.empty(n, q_width, dtype=z.dtype), torch.empty(n, d)
        call("norm", z.dtype, (n, row, 0, q_width), (eps,), [z, q_norm, None, qr])
        call("norm_turn", z.dtype, (n, row, q_width, d), (eps,), [z, kv_norm, tables[0], kv])
        ctx.pools = [(batch, n // batch, row, ratio, width, at, int(overlap)) for ratio, width, overlap, at in pools]
        out = [qr, kv]
        for i, pool in enumerate(ctx.pools):
            made = torch.empty(batch, n // batch // pool[3], pool[4])
            call("entries", z.dtype, pool, (eps,), [z, *pool_weights[2 * i:2 * i + 2], tables[1], made])
            out.append(made)
        if index_weights is not None:
            out.append(z[:, index_weights[0]:index_weights[1]].float().contiguous())
        ctx.eps, ctx.tables, ctx.columns = eps, tables, columns
        ctx.save_for_backward(z, q_norm, kv_norm, *pool_weights)
        return tuple(out)

    @staticmethod
    def backward(ctx, gqr, gkv, *gothers):
        z, q_norm, kv_norm, *pool_weights = ctx.saved_tensors
        n, row = z.shape
        q_width, d, index_weights = ctx.columns
        gz = torch.zeros_like(z)
        grads = [torch.zeros_like(w) for w in (q_norm, kv_norm, *pool_weights)]
        call("norm_backward", z.dtype, (n, row, 0, q_width), (ctx.eps,),
             [z, q_norm, None, gqr.contiguous(), grads[0], gz])
        call("norm_turn_backward", z.dtype, (n, row, q_width, d), (ctx.eps,),
             [z, kv_norm, ctx.tables[0], gkv.contiguous(), grads[1], gz])
        for i, pool in enumerate(ctx.pools):
            own = slice(2 * i, 2 * i + 2)
            call("entries_backward", z.dtype, pool, (ctx.eps,),
                 [z, *pool_weights[own], ctx.tables[1], gothers[i].contiguous(), gz, *grads[2:][own]])
        if index_weights is not None:
            gz[:, index_weights[0]:index_weights[1]] = gothers[-1]
        return gz, None, None, None, None, None, *grads


class Core(Function):
    """Queries qz [B T, row] (heads, then index queries), kv, entries, index keys and weights -> o [B T, H d] and the
    index loss. `shape`: (heads, d, window, ratio, norm eps); `index`: (heads, d, top-k, want its loss) or None."""

    @staticmethod
    def forward(ctx, qz, kv, entries, sink, keys, weights, batch, shape, index, tables, lowest):
        heads, d, window, ratio, eps = shape
        n, row = qz.shape
        count = 0 if entries is None else entries.shape[1]
        pitch = -(-count // 16) * 16
        ctx.sizes = (batch, n // batch, count, row, heads, d, window, ratio)
        ctx.constants = (eps, d ** -0.5)
        o, lse = torch.empty(n, heads * d, dtype=qz.dtype), torch.empty(n, heads)
        mask = mass = scores = None
        if index is not None:
            ctx.index = (batch, n // batch, count, row, index[0], index[1], heads * d, ratio, index[2])
            ctx.index_scale = (index[0] * index[1]) ** -0.5
            scores, mask = torch.zeros(n, pitch), torch.zeros(n, pitch, dtype=torch.uint8)
            call("scores", qz.dtype, ctx.index, (ctx.index_scale,), [qz, keys, weights, tables[0], scores, mask])
            mass = torch.zeros(n, pitch) if index[3] else None
        call("attend", qz.dtype, ctx.sizes, ctx.constants,
             [qz, kv, entries, tables[0], lowest, mask, sink, o, lse, mass])
        loss = torch.zeros(())
        if mass is not None:
            sums = torch.zeros(2, dtype=torch.float64)
            call("index_loss", torch.float32, ctx.index, (ctx.index_scale,), [mass, mask, scores, sums])
            ctx.total = max(1.0, sums[1].item())
            loss = (sums[0] / ctx.total).float()
        ctx.indexed = mass is not None
        ctx.tables, ctx.lowest = tables, lowest
        ctx.save_for_backward(qz, kv, entries, sink, keys, weights, o, lse, mask, scores)
        return o, loss

    @staticmethod
    def backward(ctx, go, gloss):
        qz, kv, entries, sink, keys, weights, o, lse, mask, scores = ctx.saved_tensors
        gqz, gkv, gsink = torch.zeros_like(qz), torch.empty_like(kv), torch.zeros_like(sink)
        gentries = None if entries is None else torch.empty_like(entries)
        call("attend_backward", qz.dtype, ctx.sizes, ctx.constants,
             [qz, kv, entries, ctx.tables[0], ctx.lowest, mask, sink, o, lse, go.contiguous(), gqz, gkv, gentries, gsink])
        gkeys = gweights = None
        if keys is not None:
            gkeys, gweights = torch.zeros_like(keys), torch.zeros_like(weights)
            if ctx.indexed:
                call("scores_backward", qz.dtype, ctx.index, (ctx.index_scale, gloss.item() / ctx.total),
                     [qz, keys, weights, ctx.tables[0], scores, gqz, gkeys, gweights])
        return gqz, gkv, gentries, gsink, gkeys, gweights, None, None, None, None, None


class Entropy(Function):
    """logits [M, V], targets [M], weights [M] -> sum of weight x cross-entropy; per row: cross-entropy and whether the
    target is the largest. The logits become their own gradient."""

    @staticmethod
    def forward(ctx, logits, targets, weights):
        losses, hits = torch.empty(len(targets)), torch.empty(len(targets), dtype=torch.uint8)
        call("entropy", logits.dtype, logits.shape, (), [logits, targets, weights, losses, hits])
        ctx.save_for_backward(logits)
        ctx.mark_non_differentiable(losses, hits)
        return (losses * weights).sum(), losses, hits

    @staticmethod
    def backward(ctx, g, *_):
        logits, = ctx.saved_tensors
        return (logits if g.item() == 1.0 else logits * g.to(logits.dtype)), None, None


class Places:
    """What the positions [B, T] of a batch decide: rotary tables of tokens and entries, window starts."""

    def __init__(self, positions, window: int):
        self.positions, self.tables = positions, {}
        batch, self.tokens = positions.shape
        self.batch = batch
        self.lowest = torch.searchsorted(positions.contiguous(), positions - window, right=True).int().contiguous()

    def table(self, attn):
        """-> (of tokens [B, T, 32], of entries or None)."""
        key = attn.ratio
        if key not in self.tables:
            n = self.tokens // attn.ratio if attn.ratio else 0
            made = _interleaved(attn.rope.table(self.positions))
            self.tables[key] = made, made[:, :n * attn.ratio:attn.ratio].contiguous() if n else None
        return self.tables[key]


def _interleaved(table):
    cos, sin = table
    return torch.cat([cos.repeat_interleave(2, -1), torch.stack([-sin, sin], -1).flatten(-2)], -1).contiguous()


def supports(config) -> bool:
    """Whether the passes' vectors fit the dimensions."""
    widths = (config.vocab_size, config.hidden_size, config.head_dim, config.q_lora_rank, config.index_head_dim,
              config.moe_intermediate_size)
    return config.qk_rope_head_dim == 16 and all(w % 16 == 0 for w in widths) and config.hc_mult <= 4


def _padded(parts):
    """Rows stacked, with rows of zeros up to a multiple of 32."""
    rows = sum(len(p) for p in parts)
    return torch.cat([*parts, parts[0].new_zeros(-rows % 32, parts[0].shape[1])])


def attention(attn, x, places, want_index_loss: bool):
    """The twin of Attention.forward: x [B T, D] -> the same."""
    c, ratio = attn.config, attn.ratio
    q_width, d = c.q_lora_rank, c.head_dim
    parts, pools, weights, live = [attn.wq_a.weight, attn.wkv.weight], [], [], q_width + d
    has_entries = ratio != 0 and places.tokens >= ratio
    has_index = has_entries and hasattr(attn, "indexer")
    for part in ([attn.compressor] if has_entries else []) + ([attn.indexer.compressor] if has_index else []):
        pools.append((ratio, part.d, part.overlap, sum(len(p) for p in parts)))
        parts += [part.wkv.weight, part.wgate.weight]
        weights += [part.ape, part.norm.weight]
        if part is not getattr(getattr(attn, "indexer", None), "compressor", None):
            live = sum(len(p) for p in parts)
    index_columns = None
    if has_index:
        at = sum(len(p) for p in parts)
        index_columns = at, at + attn.indexer.heads
        parts.append(attn.indexer.weights_proj.weight)
    tables = places.table(attn)
    z = Product.apply(x, _padded(parts), live)
    qr, kv, *rest = Read.apply(z, places.batch, c.rms_norm_eps, tables, (q_width, d, index_columns), pools,
                               attn.q_norm.weight, attn.kv_norm.weight, *weights)
    entries = attn.stored_entry(rest[0]) if has_entries else None
    index = keys = index_weights = None
    queries = [attn.wq_b.weight]
    if has_index:
        indexer, keys, index_weights = attn.indexer, rest[1], rest[2]
        queries.append(indexer.wq_b.weight)
        index = (indexer.heads, indexer.d, 1 << 30 if attn.dense_entries else indexer.topk, want_index_loss)
    qz = Product.apply(qr, torch.cat(queries), len(attn.wq_b.weight))
    shape = c.num_attention_heads, d, c.sliding_window, ratio if has_entries else 0, c.rms_norm_eps
    kv = attn.stored_entry(kv)
    o, loss = Core.apply(qz, kv, entries, attn.attn_sink, keys, index_weights, places.batch, shape, index, tables,
                         places.lowest)
    if want_index_loss and has_index:
        attn.index_loss = loss
    low = Product.apply(o, torch.block_diag(*attn.wo_a.weight.chunk(c.o_groups)))  # zeros cost less than slices of o
    return Product.apply(low, attn.wo_b.weight)


def experts(moe, x, tokens):
    """The twin of MoE.forward: x [B T, D], tokens [B T] -> the same shape. Every expert is computed for every token
    (one product is faster than gathering), those not chosen with weight 0."""
    c, e = moe.config, moe.config.n_routed_experts
    width = c.moe_intermediate_size
    both = torch.cat([torch.cat([part.w1, part.w3], 1) for part in (moe.experts, moe.shared_experts)])
    u = Product.apply(x, _padded([both.flatten(0, 1), moe.gate.weight]))
    with torch.no_grad():
        if moe.hashed:
            picked = moe.gate.tid2eid[tokens]
        else:
            logits = u[:, (e + 1) * 2 * width:(e + 1) * 2 * width + e].float()
            scores = torch.sqrt(torch.nn.functional.softplus(logits)) + moe.gate.bias
            picked = scores.topk(c.num_experts_per_tok, -1, sorted=False).indices
        chosen = torch.zeros(len(x), e, dtype=torch.uint8).scatter_(1, picked, 1)
        if moe.training:
            moe.load += chosen.sum(0)
    a = Activate.apply(u, chosen, width, c.routed_scaling_factor, c.swiglu_limit)
    down = torch.cat([moe.experts.w2, moe.shared_experts.w2]).transpose(0, 1).flatten(1)
    return Product.apply(a, down)


def _mix_in(part, h, norm, numerics):
    c = part.config
    dtype = torch.bfloat16 if numerics.bf16_products else torch.float32
    return MixIn.apply(h, part.fn, part.scale, part.base, norm.weight, c.hc_sinkhorn_iters, c.hc_eps, c.rms_norm_eps, dtype)


def block(layer, h, tokens, places, want_index_loss: bool = False):
    """The twin of Block.forward: h [B, T, S, D] -> the same."""
    shape, h = h.shape, h.flatten(0, 1).contiguous()
    x, coef = _mix_in(layer.hc_attn, h, layer.attn_norm, layer.attn.numerics)
    h = MixOut.apply(attention(layer.attn, x, places, want_index_loss), h, coef)
    x, coef = _mix_in(layer.hc_ffn, h, layer.ffn_norm, layer.attn.numerics)
    return MixOut.apply(experts(layer.ffn, x, tokens.flatten()), h, coef).view(shape)


def head_states(part, norm, h, numerics):
    """h [N, S, D] -> [N, D]: the mix before a head, normed."""
    return _mix_in(part, h.contiguous(), norm, numerics)[0]


def entropy(states, head, targets, weights):
    """states [M, D], head [V, D] -> see Entropy. Rows are added up to a multiple of 512: PyTorch compiles a product for
    every new shape."""
    rows, more = len(targets), -len(targets) % 512
    states, targets, weights = (torch.cat([t, t.new_zeros(more, *t.shape[1:])]) for t in (states, targets, weights))
    total, losses, hits = Entropy.apply(Product.apply(states, head), targets, weights)
    return total, losses[:rows], hits[:rows]
