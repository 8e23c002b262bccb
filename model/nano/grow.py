"""Widens the heads of a training state, so that a run goes on with what it has learnt.

    /usr/bin/python3 -m model.nano.grow OLD.pt NEW.pt --head-dim 144 --window 128

New channels come before the rotated ones and start small, so that the network computes nearly what it did. In the
compressors of ratio 4 each new channel starts out preferring one of the eight tokens of its entry (by `ape`): a copy
needs every token of an entry, in order.
"""

import argparse
import math
import sys
from pathlib import Path

import torch

SMALL, PREFERENCE = 0.3, 3.0


def widen(x: torch.Tensor, dim: int, blocks: int, old: int, new: int, rope: int, fill) -> torch.Tensor:
    """`dim` of x is `blocks` runs of `old` channels, the last `rope` of each rotated: new ones go before those."""
    parts = []
    for run in x.chunk(blocks, dim):
        shape = list(run.shape)
        shape[dim] = new - old
        plain, turned = run.split([old - rope, rope], dim)
        parts += [plain, fill(run, shape), turned]
    return torch.cat(parts, dim)


def small(run, shape):
    return torch.randn(shape) * (SMALL * run.std().item())


def zeros(run, shape):
    return run.new_zeros(shape)


def average(run, shape):
    return run.mean().expand(shape).clone()


class Growth:
    def __init__(self, config, new: int):
        self.old, self.new, self.rope, self.heads = config.head_dim, new, config.qk_rope_head_dim, config.num_attention_heads
        self.groups = config.o_groups

    def tensor(self, name: str, x: torch.Tensor, state: bool = False) -> torch.Tensor:
        """A parameter, or (state) what the optimiser keeps of it: that starts at zero."""
        if ".attn." not in name or ".indexer." in name:
            return x
        plan = {"wq_b.weight": (0, self.heads, small), "attn.wkv.weight": (0, 1, small), "kv_norm.weight": (0, 1, average),
                "wo_a.weight": (1, self.heads // self.groups, small), "compressor.norm.weight": (0, 1, average),
                "compressor.wkv.weight": (0, x.shape[0] // self.old, small), "ape": (-1, x.shape[-1] // self.old, zeros),
                "compressor.wgate.weight": (0, x.shape[0] // self.old, zeros)}
        for suffix, (dim, blocks, fill) in plan.items():
            if name.endswith(suffix):
                out = widen(x, dim, blocks, self.old, self.new, self.rope, zeros if state else fill)
                return out if state else self._adjusted(name, out)
        return x

    def _adjusted(self, name: str, x: torch.Tensor) -> torch.Tensor:
        if name.endswith("norm.weight") and "q_norm" not in name:
            return x * math.sqrt(self.old / self.new)  # the mean square is now over more channels
        if name.endswith("ape") and x.shape[-1] == 2 * self.new:
            for i, channel in enumerate(range(self.old - self.rope, self.new - self.rope)):
                slot = i % 8  # tokens 0 to 3 of the block before, 0 to 3 of this one
                x[slot % 4, channel + (self.new if slot >= 4 else 0)] += PREFERENCE
        return x


def grow(state: dict, head_dim: int, window: int, names: list[str]) -> dict:
    """names: of the parameters, in the order of the AdamW groups."""
    torch.manual_seed(state["step"])
    growth = Growth(state["config"], head_dim)
    state["net"] = {n: growth.tensor(n, x) for n, x in state["net"].items()}
    state.pop("average", None)  # begins anew
    optimizer = state["optimizer"]
    optimizer["muon"] = {n: growth.tensor(n, x, state=True) for n, x in optimizer["muon"].items()}
    for index, kept in optimizer["adam"]["state"].items():
        for key in ("exp_avg", "exp_avg_sq"):
            kept[key] = growth.tensor(names[index], kept[key], state=True)
    state["config"].head_dim, state["config"].sliding_window = head_dim, window
    return state


def main() -> int:
    from model.nano.train import Trainer
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--head-dim", type=int, default=144)
    parser.add_argument("--window", type=int, default=128)
    args = parser.parse_args()
    names = Trainer.load(args.old).optimizer.adam_names
    torch.save(grow(torch.load(args.old), args.head_dim, args.window, names), args.new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
