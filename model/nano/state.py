"""Packs a training state for the repository, and unpacks it.

    /usr/bin/python3 -m model.nano.state pack /tmp/nano.pt model/nano/state
    /usr/bin/python3 -m model.nano.state unpack model/nano/state /tmp/nano.pt

Of the weights their average is kept, in float32, and a run goes on from there; what the optimiser keeps of them
becomes BF16 (its noise is far larger). The log of the run,
NAME.jsonl beside NAME.pt, travels with it. The folder holds weights.safetensors, optimizer.safetensors, state.json and
log.jsonl: no pickles.
"""

import argparse
import dataclasses
import json
import sys
from pathlib import Path

import torch

from model.nano import checkpoint, config

NUMBERS = ("seed", "step", "tokens", "seconds")


def pack(state_file: Path, folder: Path):
    from model.nano.train import Trainer
    state, trainer = torch.load(state_file), Trainer.load(state_file)
    trainer.settle()
    folder.mkdir(parents=True, exist_ok=True)
    seen, weights = {}, {}
    for name, tensor in trainer.net.state_dict().items():  # embedding and head are one matrix
        if tensor.data_ptr() not in seen:
            seen[tensor.data_ptr()] = name
            weights[name] = tensor
    adam = state["optimizer"]["adam"]
    kept = {f"muon.{n}": t for n, t in state["optimizer"]["muon"].items()}
    for index, entry in adam["state"].items():
        for key in ("exp_avg", "exp_avg_sq"):
            kept[f"adam.{index}.{key}"] = entry[key]
    checkpoint.write_safetensors(folder / "weights.safetensors", {
        n: ("F32" if t.is_floating_point() else "I64", t) for n, t in weights.items()})
    checkpoint.write_safetensors(folder / "optimizer.safetensors", {n: ("BF16", t) for n, t in kept.items()})
    plain = {k: state[k] for k in NUMBERS}
    plain["config"] = dataclasses.asdict(state["config"])
    plain["adam_steps"] = {str(i): int(e["step"]) for i, e in adam["state"].items()}
    (folder / "state.json").write_text(json.dumps(plain, indent=1) + "\n")
    log = state_file.with_suffix(".jsonl")
    if log.exists():
        (folder / "log.jsonl").write_text(log.read_text())


def unpack(folder: Path, state_file: Path):
    from model.nano.train import Trainer
    plain = json.loads((folder / "state.json").read_text())
    trainer = Trainer(plain["seed"], dimensions=config.Config(**plain["config"]))
    weights = {n: t for n, (_, t) in checkpoint.read_safetensors(folder / "weights.safetensors").items()}
    weights.setdefault("head.weight", weights["embed.weight"])
    trainer.net.load_state_dict(weights)
    trainer.average = [t.detach().clone() for t in trainer.learnt()]
    kept = {n: t for n, (_, t) in checkpoint.read_safetensors(folder / "optimizer.safetensors").items()}
    for name, buffer in trainer.optimizer.buffers.items():
        buffer.copy_(kept[f"muon.{name}"])
    adam = trainer.optimizer.adam.state_dict()
    adam["state"] = {int(i): {"step": torch.tensor(float(step)), **{k: kept[f"adam.{i}.{k}"]
                                                                    for k in ("exp_avg", "exp_avg_sq")}}
                     for i, step in plain["adam_steps"].items()}
    trainer.optimizer.adam.load_state_dict(adam)
    for key in NUMBERS:
        setattr(trainer, key, plain[key])
    trainer.save(state_file)
    if (folder / "log.jsonl").exists():
        state_file.with_suffix(".jsonl").write_text((folder / "log.jsonl").read_text())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["pack", "unpack"])
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    args = parser.parse_args()
    (pack if args.action == "pack" else unpack)(args.source, args.target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
