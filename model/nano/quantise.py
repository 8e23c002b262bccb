"""The number formats of the official checkpoints: rounding with straight-through gradients, and packing.

FP8 is E4M3FN with one power-of-two scale per tile; FP4 is E2M1 with one per 32 elements of a row. All functions
work on float32 tensors. `round_*` and `fake_*` return float32 values that lie on the grid; `fake_*` let gradients
through unchanged (straight-through). Source: "Packing and numerics" of the model description, docs of model/.
"""

import dataclasses
import functools

import torch

FP8_MAX, FP4_MAX = 448.0, 6.0
AMAX_FLOOR = 1e-4               # of FP8 groups of KV entries
FP4_FLOOR = 6.0 * 2.0 ** -126   # of FP4 groups of index keys


@dataclasses.dataclass
class Numerics:
    """What the network rounds. All off: smooth float32, for the start of training and the golden check."""
    weights: bool = False      # FP4 experts, FP8 dense, BF16 for the rest
    kv: bool = False           # FP8 KV entries with BF16 rotated dims
    index: bool = False        # FP4 index queries and keys, from float32 as the C++ does (not by way of BF16)
    activations: bool = False  # int8 per 32 elements before FP4 products, as the C++ CPU backend does
    bf16_products: bool = False  # matrix products of BF16 inputs: training on processors with BF16 units
    fused: bool = False        # fused.py's passes in place of the modules' own; together with kv alone
    exact_ties: bool = False   # top-k ties go to the lower index, as the C++ does; slower

    @staticmethod
    def native() -> "Numerics":
        """The numerics of `holdfast model logits --precision native`."""
        return Numerics(weights=True, kv=True, index=True, activations=True, exact_ties=True)


def _float_grid(x: torch.Tensor, mantissa_bits: int, min_exponent: int) -> torch.Tensor:
    """Rounds to the nearest value of a small float format, ties to even codes; x must be in its range."""
    exponent = ((x.view(torch.int32) >> 23) & 0xFF).clamp_min(min_exponent + 127) - mantissa_bits
    step = (exponent << 23).view(torch.float32)
    return torch.round(x / step) * step


def round_e4m3(x: torch.Tensor) -> torch.Tensor:
    return _float_grid(x.float().clamp(-FP8_MAX, FP8_MAX).contiguous(), 3, -6)


def round_e2m1(x: torch.Tensor) -> torch.Tensor:
    return _float_grid(x.float().clamp(-FP4_MAX, FP4_MAX).contiguous(), 1, 0)


def round_bf16(x: torch.Tensor) -> torch.Tensor:
    return x.to(torch.bfloat16).float()


def power_of_two_scale(amax: torch.Tensor, largest: float) -> torch.Tensor:
    """2^ceil(log2(amax / largest)) from the bits of the float32 product, as the official kernels do."""
    bits = (amax.float() * torch.tensor(1.0 / largest, dtype=torch.float32)).contiguous().view(torch.int32)
    exponent = ((bits >> 23) & 0xFF) + ((bits & 0x7FFFFF) != 0).int()
    return (exponent.clamp_min(1) << 23).view(torch.float32)


def groups_fp8(x: torch.Tensor, group: int = 64) -> torch.Tensor:
    """[..., K] -> the same, each group of `group` elements on the FP8 grid of its own scale."""
    g = x.reshape(*x.shape[:-1], -1, group)
    s = power_of_two_scale(g.abs().amax(-1, keepdim=True).clamp_min(AMAX_FLOOR), FP8_MAX)
    return (round_e4m3(g / s) * s).reshape(x.shape)


def groups_fp4(x: torch.Tensor, floor: float = FP4_FLOOR) -> torch.Tensor:
    """[..., K] -> the same, each 32 elements on the FP4 grid of their own scale."""
    g = x.reshape(*x.shape[:-1], -1, 32)
    s = power_of_two_scale(g.abs().amax(-1, keepdim=True).clamp_min(floor), FP4_MAX)
    return (round_e2m1(g / s) * s).reshape(x.shape)


def tile_scales(w: torch.Tensor, tile: int = 128) -> torch.Tensor:
    """[..., R, C] -> [..., ceil(R/tile), ceil(C/tile)] power-of-two scales of FP8 tiles."""
    rows, cols = w.shape[-2:]
    pad = torch.nn.functional.pad(w.abs(), (0, -cols % tile, 0, -rows % tile))
    pad = pad.reshape(*w.shape[:-2], -(-rows // tile), tile, -(-cols // tile), tile)
    return power_of_two_scale(pad.amax(-1).amax(-2).clamp_min(FP4_FLOOR), FP8_MAX)


def spread_tiles(scales: torch.Tensor, rows: int, cols: int, tile: int = 128) -> torch.Tensor:
    """[..., r, c] tile scales -> [..., rows, cols]."""
    return scales.repeat_interleave(tile, -2).repeat_interleave(tile, -1)[..., :rows, :cols]


def tiles_fp8(w: torch.Tensor) -> torch.Tensor:
    s = spread_tiles(tile_scales(w), *w.shape[-2:])
    return round_e4m3(w / s) * s


def groups_int8(x: torch.Tensor) -> torch.Tensor:
    """[..., K] -> int8 per 32 elements, scale amax / 127: what the C++ CPU backend makes of the input of an FP4
    product."""
    g = x.reshape(*x.shape[:-1], -1, 32)
    amax = g.abs().amax(-1, keepdim=True).clamp_min(1e-30)
    return (torch.round(g * (127.0 / amax)) * (amax / 127.0)).reshape(x.shape)


def _straight_through(rounding, x: torch.Tensor) -> torch.Tensor:
    return x + (rounding(x.detach()) - x).detach() if x.requires_grad else rounding(x)


fake_bf16 = functools.partial(_straight_through, round_bf16)
fake_fp8_tiles = functools.partial(_straight_through, tiles_fp8)
fake_fp4 = functools.partial(_straight_through, groups_fp4)
fake_int8 = functools.partial(_straight_through, groups_int8)


def _round_entry(x: torch.Tensor, rope_dim: int) -> torch.Tensor:
    return torch.cat([groups_fp8(x[..., :-rope_dim]), round_bf16(x[..., -rope_dim:])], -1)


def fake_kv_entry(x: torch.Tensor, rope_dim: int) -> torch.Tensor:
    """[..., d]: the first d - rope_dim on the FP8 grid in groups of 64, the rotated rest in BF16."""
    return _straight_through(functools.partial(_round_entry, rope_dim=rope_dim), x)


# --- packing --------------------------------------------------------------------------------------------

def pack_scales(scales: torch.Tensor) -> torch.Tensor:
    """Power-of-two float32 -> UE8M0 bytes."""
    return ((scales.contiguous().view(torch.int32) >> 23) & 0xFF).to(torch.uint8)


def unpack_scales(bytes_: torch.Tensor) -> torch.Tensor:
    return (bytes_.to(torch.int32) << 23).view(torch.float32)


def _e4m3_table() -> torch.Tensor:
    codes = torch.arange(128)
    exponent, mantissa = codes >> 3, (codes & 7).float()
    value = torch.where(exponent == 0, mantissa * 2.0 ** -9, (1 + mantissa / 8) * 2.0 ** (exponent - 7.0))
    value[127] = float("nan")
    return torch.cat([value, -value])


E4M3 = _e4m3_table()
E2M1 = torch.tensor([0, .5, 1, 1.5, 2, 3, 4, 6, -0.0, -.5, -1, -1.5, -2, -3, -4, -6])


def pack_fp8(w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """[R, C] -> (E4M3 bytes [R, C], UE8M0 tile scales)."""
    scales = tile_scales(w)
    q = round_e4m3(w / spread_tiles(scales, *w.shape))
    codes = torch.searchsorted(E4M3[:127].contiguous(), q.abs().contiguous())
    return (codes + 128 * torch.signbit(q)).to(torch.uint8), pack_scales(scales)


def unpack_fp8(codes: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    return E4M3[codes.long()] * spread_tiles(unpack_scales(scales), *codes.shape)


def pack_fp4(w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """[R, C] -> (bytes [R, C/2], even element in the low nibble; UE8M0 scales [R, C/32])."""
    g = w.reshape(w.shape[0], -1, 32)
    scales = power_of_two_scale(g.abs().amax(-1).clamp_min(FP4_FLOOR), FP4_MAX)
    q = round_e2m1(g / scales[..., None]).reshape(w.shape)
    codes = torch.searchsorted(E2M1[:8].contiguous(), q.abs().contiguous()) + 8 * torch.signbit(q)
    return (codes[:, 0::2] | (codes[:, 1::2] << 4)).to(torch.uint8), pack_scales(scales)


def unpack_fp4(bytes_: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    b = bytes_.view(torch.uint8).long()
    values = torch.stack([E2M1[b & 15], E2M1[b >> 4]], -1).flatten(-2)
    return values * unpack_scales(scales).repeat_interleave(32, -1)
