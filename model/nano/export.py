"""Writes a network as a checkpoint in the official layout, and compares it with the C++ engine.

    /usr/bin/python3 -m model.nano.export random DIR              random weights of nano's dimensions, for checks
    /usr/bin/python3 -m model.nano.export state STATE DIR         the weights of a training state
    /usr/bin/python3 -m model.nano.export compare DIR --holdfast BIN [--tokens N] [--seed S]

Routed experts are FP4, matrices with a scale FP8, both with power-of-two scales; everything else BF16 or F32 as the
official schema has it. `compare` runs the PyTorch forward with native numerics on the exported weights and
`holdfast model logits --precision native`, and prints the mean KL(PyTorch || C++) over positions.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from model.nano import checkpoint, config, quantise
from model.nano.net import Net
from model.nano.quantise import Numerics

TOKENIZER = Path(__file__).parent / "tokenizer.json"
SHARD = "model-00001-of-00001.safetensors"

_BF16 = ("embed.weight", "head.weight", "norm.weight", "gate.weight", "weights_proj.weight",
         "compressor.wkv.weight", "compressor.wgate.weight")


def stored_dtype(name: str) -> str:
    """The official dtype of a tensor by its official name."""
    if name.endswith("tid2eid"):
        return "I64"
    if ".experts." in name:
        return "I8"
    if name.endswith(_BF16):
        return "BF16"
    return "F8_E4M3" if name.endswith(".weight") else "F32"


def stored_tensors(net: Net) -> dict:
    """Official name -> (dtype, tensor as stored), scales after their weights."""
    out = {}
    for name, tensor in checkpoint.official_tensors(net).items():
        tensor, dtype = tensor.detach(), stored_dtype(name)
        if dtype in ("I8", "F8_E4M3"):
            values, scales = (quantise.pack_fp4 if dtype == "I8" else quantise.pack_fp8)(tensor)
            out[name] = (dtype, values)
            out[name.removesuffix(".weight") + ".scale"] = ("F8_E8M0", scales)
        else:
            out[name] = (dtype, tensor)
    return out


def export(net: Net, directory: str | Path, tokenizer: Path = TOKENIZER):
    """Writes config.json, one shard, its index, and tokenizer.json when there is one."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    tensors = stored_tensors(net)
    # Widest elements first: then every tensor begins at a multiple of its element size.
    order = sorted(tensors, key=lambda n: ["I64", "F32", "BF16"].index(tensors[n][0])
                   if tensors[n][0] in ("I64", "F32", "BF16") else 3)
    checkpoint.write_safetensors(directory / SHARD, {n: tensors[n] for n in order}, {"format": "pt"})
    total = sum(t.numel() * {"I64": 8, "F32": 4, "BF16": 2}.get(d, 1) for d, t in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": {n: SHARD for n in sorted(tensors)}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")
    (directory / "config.json").write_text(net.config.to_json())
    if tokenizer.exists():
        shutil.copyfile(tokenizer, directory / "tokenizer.json")


def hash_tables(net: Net, seed: int):
    """Fills tid2eid of the hash layers: distinct experts for each token, by seed."""
    generator = torch.Generator().manual_seed(seed)
    for layer in net.layers:
        if layer.ffn.hashed:
            table = layer.ffn.gate.tid2eid
            noise = torch.rand(table.shape[0], net.config.n_routed_experts, generator=generator)
            table.copy_(noise.topk(table.shape[1], -1).indices)


def compare(directory: Path, holdfast: str, ids: list[int], threads: int = 1) -> dict:
    """Figures over all positions: mean and max KL(PyTorch native || C++ native), share of equal top-1."""
    with tempfile.TemporaryDirectory() as folder:
        tokens, out = Path(folder) / "ids.json", Path(folder) / "logits.safetensors"
        tokens.write_text(json.dumps(ids))
        subprocess.run([holdfast, "model", "logits", str(directory), "--tokens", str(tokens), "--precision", "native",
                        "--threads", str(threads), "--out", str(out)], check=True, stderr=subprocess.DEVNULL)
        theirs = checkpoint.read_safetensors(out)["logits"][1]
    net = checkpoint.load_net(directory, Numerics.native())
    net.numerics.weights = False  # dequantised already
    with torch.no_grad():
        ours = net(torch.tensor(ids)[None])[0]
    p, q = ours.log_softmax(-1), theirs.log_softmax(-1)
    kl = (p.exp() * (p - q)).sum(-1)
    return {"tokens": len(ids), "kl_mean": kl.mean().item(), "kl_max": kl.max().item(),
            "top1": (p.argmax(-1) == q.argmax(-1)).float().mean().item(),
            "logit_diff_mean": (ours - theirs).abs().mean().item()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["random", "state", "compare"])
    parser.add_argument("paths", nargs="+")
    parser.add_argument("--holdfast", default="build/dev/cli/holdfast")
    parser.add_argument("--tokens", type=int, default=600)
    parser.add_argument("--vocab", type=int, default=4096)
    parser.add_argument("--ids", help="file with a JSON list of ids instead of random ones")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)
    if args.command == "random":
        net = Net(config.nano(args.vocab))
        hash_tables(net, args.seed)
        export(net, args.paths[0])
    elif args.command == "state":
        from model.nano import train
        export(train.load_net(args.paths[0]), args.paths[1])
    else:
        directory = Path(args.paths[0])
        vocab = config.Config.load(directory / "config.json").vocab_size
        ids = json.loads(Path(args.ids).read_text()) if args.ids else torch.randint(vocab, (args.tokens,)).tolist()
        figures = compare(directory, args.holdfast, ids)
        print(json.dumps(figures))
        return 0 if figures["kl_mean"] <= 1e-3 else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
