"""Trains nano in slices; a slice goes on where the last one stopped.

    /usr/bin/python3 -m model.nano.train --state nano.pt --cache DIR --holdfast BIN --minutes 30 --threads 1

The loss is cross-entropy on the model's tokens, 0.1 of it on a sample of the rest, an indexer loss and an MTP loss.
Everything is decided by --seed and the step number (one thread count, one machine: the same numbers). Curves go to
STATE.jsonl, one object a line; curves.py draws them. Stages (below) raise length and difficulty.
"""

import argparse
import contextlib
import ctypes
import json
import random
import signal
import sys
import time
from pathlib import Path

import numpy
import torch
import torch.nn.functional as F

from model.nano import config, episodes, export, fused, quantise
from model.nano.muon import Optimizer
from model.nano.net import Net
from model.nano.swaps import READ_SWAPPED, Swaps
from model.nano.teacher import prompt_prefix

TOKENIZER = Path(__file__).parent / "tokenizer.json"
SHARD_EPISODES, SHARD_STEPS = 4000, 500

PROMPTED = {"needle": 0.05, "find": 0.25, "rename": 0.2, "set": 0.12, "report": 0.06, "find+prompt": 0.1,
            "rename+prompt": 0.1, "set+prompt": 0.07, "report+prompt": 0.05}
FIRST = {"drill": 0.12, "needle": 0.04, "find": 0.34, "rename": 0.26, "set": 0.14, "report": 0.1}
DEMO = {"drill": 0.12, "needle": 0.04, "find": 0.32, "rename": 0.2, "check": 0.06, "set": 0.14, "report": 0.12}
OTHERS = {"drill": 0.06, "needle": 0.06, "find": 0.18, "rename": 0.08, "check": 0.12, "set": 0.25, "report": 0.25}
LAST = {"drill": 0.06, "needle": 0.05, "find": 0.3, "rename": 0.22, "set": 0.25, "report": 0.12}

# until: first step of the next stage; mix: skill -> weight; lr: factor, or (first, last) of a straight line;
# swapped: the share of episodes with other words (swaps.py); prompt: the share of rows that begin with the prompt;
# apart: episodes of a row do not see each other through the window; quantised: with the numbers an export would store.
# Before step 1,830 heads had 80 channels and the window 64 tokens, then 144 and 128; 512 since step 2,627 (grow.py).
STAGES = [
    {"until": 600, "tokens": 256, "batch": 12, "mix": {"drill": 0.7, "line": 0.3}, "lr": 1.0},
    {"until": 820, "tokens": 256, "batch": 16, "mix": {"drill": 0.3, "line": 0.7}, "lr": 1.0},
    {"until": 1300, "tokens": 384, "batch": 16, "mix": {"drill": 0.15, "line": 0.25, "find": 0.6}, "lr": 1.0},
    {"until": 1800, "tokens": 384, "batch": 16, "mix": {"drill": 0.15, "line": 0.25, "find": 0.6}, "lr": 0.5},
    {"until": 2160, "tokens": 384, "batch": 16, "mix": {"drill": 0.15, "line": 0.1, "find": 0.6, "needle": 0.15},
     "lr": 0.7},
    {"until": 3150, "tokens": 512, "batch": 12, "mix": {"drill": 0.05, "needle": 0.05, "find": 0.35, "rename": 0.3,
                                                        "set": 0.15, "report": 0.1}, "lr": 0.6},
    {"until": 3300, "tokens": 1024, "batch": 6, "mix": PROMPTED, "lr": 0.5},
    {"until": 3500, "tokens": 1024, "batch": 6, "mix": FIRST, "swapped": 0.6, "prompt": 0.3, "lr": 0.5},
    {"until": 3645, "tokens": 1536, "batch": 4, "mix": DEMO, "swapped": 0.7, "prompt": 0.4, "lr": 0.5},
    {"until": 3749, "tokens": 1536, "batch": 4, "mix": DEMO, "swapped": 0.7, "prompt": 0.3, "apart": True,
     "lr": (0.5, 0.43), "quantised": True},
    {"until": 3912, "tokens": 1536, "batch": 4, "mix": OTHERS, "swapped": 0.6, "prompt": 0.5, "apart": True,
     "lr": (0.35, 0.22), "quantised": True},
    {"until": 4150, "tokens": 1536, "batch": 4, "mix": LAST, "swapped": 0.6, "prompt": 0.5, "apart": True,
     "lr": (0.22, 0.02), "quantised": True},
]
WINDOW = config.nano(0).sliding_window
AVERAGED = 60      # steps that the average of the weights reaches back
DENSE_STEPS = 200  # the indexer warms up while attention sees every entry
WEIGHTS = {"rest": 0.1, "index": 0.1, "mtp": 0.2}
MTP_EVERY = 4      # the draft stage is trained on every fourth step, with four times the weight
SHARES = torch.tensor([0.25, 0.4, 1.0, 0.0])  # the share of a mask's 0, 1, 2 and READ_SWAPPED that takes part


class Data:
    """Packed rows of episodes, by (seed, step). Shards are made when first needed and kept in a folder."""

    def __init__(self, cache: Path, holdfast: str, seed: int):
        self.cache, self.holdfast, self.seed = cache, holdfast, seed
        self.shards, self.sources, self.prompt = {}, {}, None
        self.swaps = Swaps(TOKENIZER)
        cache.mkdir(parents=True, exist_ok=True)

    def shard(self, split: str, skill: str, number: int):
        key = (split, skill, number)
        if key not in self.shards:
            path = self.cache / f"{split}-{skill}-{number}-{self.seed}.npz"
            if not path.exists():
                sources = self.sources.setdefault(split, episodes.Sources(split))
                count = SHARD_EPISODES if split == "train" else 200
                made = episodes.generate(skill, count, self.seed * 1000 + number, split, self.holdfast, TOKENIZER, sources)
                unfinished = path.with_suffix(".part.npz")
                numpy.savez_compressed(unfinished, **dict(zip(("ids", "mask", "starts"), made)))
                unfinished.replace(path)
            loaded = numpy.load(path)
            self.shards[key] = tuple(loaded[k] for k in ("ids", "mask", "starts"))
        return self.shards[key]

    def episode(self, split: str, skill: str, number: int, index: int):
        """(ids, mask) of one episode; one with the prompt is one without and the prompt's tokens before it."""
        skill, _, prompt = skill.partition("+")
        ids, mask, starts = self.shard(split, skill, number)
        end = starts[index + 1] if index + 1 < len(starts) else len(ids)
        ids, mask = ids[starts[index]:end], mask[starts[index]:end]
        if prompt:
            before = self.prompt_ids()
            ids = numpy.concatenate([before, ids[1:]])
            mask = numpy.concatenate([numpy.zeros(len(before), mask.dtype), mask[1:]])
        return ids, mask

    def prompt_ids(self) -> numpy.ndarray:
        """BOS and nano's prompt prefix."""
        if self.prompt is None:
            user = {"role": "user", "content": "x"}
            with_prompt, plain = episodes.render([[prompt_prefix(), user], [user]], self.holdfast, TOKENIZER)
            assert with_prompt[-len(plain) + 1:] == plain[1:]
            self.prompt = numpy.array(with_prompt[:1 - len(plain)], numpy.uint16)
        return self.prompt

    def batch(self, stage: dict, step: int):
        """-> tokens [B, T + 2], mask [B, T + 2], positions [B, T]."""
        rng = random.Random(f"{self.seed}/{step}")
        rows, masks, positions = [], [], []
        for _ in range(stage["batch"]):
            ids, mask, starts = [], [], []
            prompt = "+prompt" if rng.random() < stage.get("prompt", 0.0) else ""  # before the row's first episode
            while len(ids) < stage["tokens"] + 2:
                skill = rng.choices(list(stage["mix"]), stage["mix"].values())[0]
                more = self.episode("train", skill + prompt, step // SHARD_STEPS, rng.randrange(SHARD_EPISODES))
                if rng.random() < stage.get("swapped", 0.0):
                    more = self.swaps.swapped(rng, *more)
                starts.append(len(ids))
                ids += more[0].tolist()
                mask += more[1].tolist()
                prompt = ""
            rows.append(ids[:stage["tokens"] + 2])
            masks.append(mask[:stage["tokens"] + 2])
            positions.append(spread_positions(rng, stage["tokens"], starts if stage.get("apart") else []))
        return torch.tensor(rows), torch.tensor(masks), torch.stack(positions)


def spread_positions(rng: random.Random, tokens: int, starts: list[int]) -> torch.Tensor:
    """[T] positions below a million: a random start; in a fifth of the rows, jumps where blocks of 128 begin. Before an
    episode that begins at one of `starts`, a jump wider than the window: no episode attends to another through it,
    which is what the agent's will find, and half the work of attention in a row of short ones."""
    jumps = torch.zeros(tokens, dtype=torch.int64)
    jumps[0] = 128 * int(2 ** rng.uniform(0, 12)) - 128
    rate = 0.25 if rng.random() < 0.2 else 0.0
    for t in range(128, tokens, 128):
        if rng.random() < rate:
            jumps[t] = 128 * int(2 ** rng.uniform(0, 11))
    for t in starts[1:]:
        if t < tokens:
            jumps[t] += WINDOW + int(2 ** rng.uniform(0, 13))
    return torch.arange(tokens) + jumps.cumsum(0)


def mean_weights(where: torch.Tensor) -> torch.Tensor:
    """bool -> float32 weights that make the mean over `where`."""
    return where / where.sum().clamp_min(1)


def stage_of(step: int) -> dict:
    return next((s for s in STAGES if step < s["until"]), STAGES[-1])


def rate_of(step: int) -> float:
    """The factor of the learning rates at a step."""
    stage = stage_of(step)
    if not isinstance(stage["lr"], tuple):
        return stage["lr"]
    start = max((s["until"] for s in STAGES if s["until"] < stage["until"]), default=0)
    first, last = stage["lr"]
    return first + (last - first) * min(1.0, (step - start) / (stage["until"] - start))


class Trainer:
    def __init__(self, seed: int, bf16: bool = False, dimensions: config.Config | None = None):
        self.seed, self.step, self.tokens, self.seconds = seed, 0, 0, 0.0
        torch.manual_seed(seed)
        self.net = Net(dimensions or config.nano(len_vocab()), tie=True)
        export.hash_tables(self.net, seed)
        self.optimizer = Optimizer(self.net, bf16=bf16)
        self.fused = fused.available(self.net.config)
        self.average = [t.detach().clone() for t in self.learnt()]

    def learnt(self) -> list:
        """What is averaged: parameters, and the biases that balance the experts."""
        return [*self.net.parameters(), *(b for n, b in self.net.named_buffers() if n.endswith("gate.bias"))]

    def save(self, path: Path):
        state = {k: getattr(self, k) for k in ("seed", "step", "tokens", "seconds", "average")}
        state.update(net=self.net.state_dict(), optimizer=self.optimizer.state_dict(), config=self.net.config)
        temporary = path.with_suffix(".tmp")
        torch.save(state, temporary)
        temporary.replace(path)

    @staticmethod
    def load(path: Path, bf16: bool = False) -> "Trainer":
        state = torch.load(path)
        trainer = Trainer(state["seed"], bf16, state["config"])
        trainer.net.load_state_dict(state["net"])
        trainer.optimizer.load_state_dict(state["optimizer"])
        trainer.average = state.get("average") or [t.detach().clone() for t in trainer.learnt()]
        for k in ("step", "tokens", "seconds"):
            setattr(trainer, k, state[k])
        return trainer

    def set_numerics(self, stage: dict):
        on = stage.get("quantised", False)
        plain = on and not self.fused
        wanted = quantise.Numerics(weights=plain, kv=on, index=plain, activations=plain, fused=self.fused,
                                   bf16_products=self.optimizer.bf16)
        vars(self.net.numerics).update(vars(wanted))
        self.net.set_dense_entries(self.step < DENSE_STEPS)

    def settle(self):
        """The net becomes its average, in this object."""
        for t, average in zip(self.learnt(), self.average):
            t.data.copy_(average)

    @contextlib.contextmanager
    def averaged(self):
        """Inside, the net has the running average of its weights. While the rate is high the weights jump about what
        they tend to: a state that solves three of four episodes has an average that solves nearly all."""
        exact = [t.data for t in self.learnt()]
        try:
            for t, average in zip(self.learnt(), self.average):
                t.data = average
            yield
        finally:
            for t, data in zip(self.learnt(), exact):
                t.data = data

    def weights_of(self, stage: dict):
        """What the passes of a stage compute with: the exact weights, or those an export would store."""
        return self.net.stored_weights() if stage.get("quantised") else contextlib.nullcontext()

    def train_step(self, data: Data) -> dict:
        stage = stage_of(self.step)
        self.set_numerics(stage)
        rows, mask, positions = data.batch(stage, self.step)
        torch.manual_seed(self.seed * 1_000_003 + self.step)
        with self.weights_of(stage):
            total, figures = self.losses(rows, mask, positions)
            total.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.net.parameters(), 10.0)
        self.optimizer.step(min(1.0, (self.step + 1) / 50) * rate_of(self.step))
        self.optimizer.zero_grad(self.net)
        self.net.balance_experts()
        for t, average in zip(self.learnt(), self.average):
            average.lerp_(t.data, 1 / AVERAGED)
        self.step += 1
        self.tokens += positions.numel()
        return {**{k: float(v) for k, v in figures.items()}, "norm": norm.item()}

    def losses(self, rows, mask, positions) -> tuple:
        """rows, mask [B, T + 2], positions [B, T]; row t is read, t + 1 predicted, t + 2 by the draft stage.
        -> the loss to minimise, figures."""
        net, wanted = self.net, mask[:, 1:-1]
        h = net.streams(rows[:, :-2], positions, want_index_loss=True)
        picked = torch.rand(wanted.shape) < SHARES[wanted]
        weights = mean_weights(picked & (wanted > 0)) + WEIGHTS["rest"] * mean_weights(picked & (wanted == 0))
        total, losses, right = self._entropy(net.states(h), rows[:, 1:-1], weights)
        kind, right = wanted[weights > 0], right.float()
        out = {"model": losses[kind > 0].mean(), "rest": losses[kind == 0].mean(), "markup": right[kind == 1].mean(),
               "copy": right[kind == 2].mean(), "index": sum(net.index_losses())}
        total = total + WEIGHTS["index"] * out["index"]
        if self.step % MTP_EVERY == 0:
            after = net.mtp[0].states(h, net.embedded(rows[:, 1:-1]), rows[:, 1:-1], net.places(positions))
            written = (mask[:, 2:] > 0) & (mask[:, 2:] < READ_SWAPPED)
            mtp, _, _ = self._entropy(after, rows[:, 2:], mean_weights(picked & written))
            out["mtp"], total = mtp, total + WEIGHTS["mtp"] * MTP_EVERY * mtp
        return total, out

    def _entropy(self, states, targets, weights):
        where = weights > 0
        return self.net.entropy(states[where], targets[where], weights[where])

    def evaluate(self, data: Data, skill: str, count: int = 40) -> dict:
        """Teacher-forced, on names and packages not trained on. `solved`: every token of the model is the argmax,
        which is what greedy decoding without constraints needs to go through the episode without an error."""
        self.net.eval()
        with torch.no_grad(), self.averaged(), self.weights_of(stage_of(self.step)):
            figures = self._evaluated(data, skill, count)
        self.net.train()
        return figures

    def _evaluated(self, data: Data, skill: str, count: int) -> dict:
        tokens = copies = right = copies_right = solved = 0
        for i in range(count):
            ids, mask = (torch.from_numpy(a.astype("int64")) for a in data.episode("eval", skill, 0, i))
            best = self.net.logits(self.net.states(self.net.streams(ids[None])))[0, :-1].argmax(-1)
            hit, kind = best == ids[1:], mask[1:]
            tokens, right = tokens + (kind > 0).sum().item(), right + (hit & (kind > 0)).sum().item()
            copies, copies_right = copies + (kind == 2).sum().item(), copies_right + (hit & (kind == 2)).sum().item()
            solved += bool(hit[kind > 0].all())
        return {f"eval_{skill}": right / tokens, f"eval_{skill}_copy": copies_right / copies,
                f"eval_{skill}_solved": solved / count}


def len_vocab() -> int:
    data = json.loads(TOKENIZER.read_text())
    return max(max(data["model"]["vocab"].values()), max(t["id"] for t in data["added_tokens"])) + 1


def keep_freed_memory():
    """Has glibc keep large blocks: giving each tensor back to the system and faulting it in again costs a quarter of a
    step."""
    if hasattr(ctypes.CDLL(None), "mallopt"):
        trim_threshold, mmap_max = -1, -4
        ctypes.CDLL(None).mallopt(mmap_max, 0)
        ctypes.CDLL(None).mallopt(trim_threshold, 2 ** 31 - 1)


def load_net(path) -> Net:
    """The averaged network of a state: what is evaluated and exported."""
    trainer = Trainer.load(Path(path))
    trainer.settle()
    return trainer.net.eval()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True, help="folder for episodes")
    parser.add_argument("--holdfast", default="build/dev/cli/holdfast")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bf16", action="store_true", help="BF16 matrix products: where the processor has them")
    parser.add_argument("--log-every", type=int, default=10)
    parser.add_argument("--eval-every", type=int, default=100)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    trainer = Trainer.load(args.state, args.bf16) if args.state.exists() else Trainer(args.seed, args.bf16)
    data = Data(args.cache, args.holdfast, trainer.seed)
    log = args.state.with_suffix(".jsonl").open("a")
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(True))  # finish the step, save, leave
    started = last = time.monotonic()
    while not stop and time.monotonic() - started < args.minutes * 60:
        figures = trainer.train_step(data)
        trainer.seconds, last = trainer.seconds + time.monotonic() - last, time.monotonic()
        if trainer.step % args.log_every == 0 or trainer.step == 1:
            line = {"step": trainer.step, "tokens": trainer.tokens, "seconds": round(trainer.seconds, 1)}
            if trainer.step % args.eval_every == 0:
                mix = stage_of(trainer.step)["mix"]
                for skill in mix:
                    if skill != "drill" and skill + "+prompt" not in mix:
                        prompt = "+prompt" if stage_of(trainer.step).get("prompt") and skill != "needle" else ""
                        figures.update(trainer.evaluate(data, skill + prompt))
                trainer.save(args.state)
            line.update({k: round(v, 4) for k, v in figures.items()})
            print(json.dumps(line), file=log, flush=True)
    trainer.save(args.state)
    print(f"step {trainer.step}, {trainer.tokens} tokens, {trainer.seconds:.0f} s in all")
    return 0


if __name__ == "__main__":
    sys.exit(main())
