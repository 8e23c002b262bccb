"""Official checkpoints: reading and writing safetensors, and the official tensor names.

A checkpoint is config.json, model-0000X-of-0000Y.safetensors and model.safetensors.index.json in one directory.
"""

import json
import re
import struct
from pathlib import Path

import numpy
import torch

from model.nano import quantise
from model.nano.config import Config
from model.nano.net import Net
from model.nano.quantise import Numerics

# dtype of a safetensors header -> how its bytes are read; the small floats stay bytes.
_NUMPY = {"F32": "<f4", "I64": "<i8", "I32": "<i4", "BF16": "<i2", "I8": "u1", "U8": "u1", "F8_E4M3": "u1",
          "F8_E8M0": "u1"}


def read_safetensors(path: Path) -> dict:
    """name -> (dtype string, tensor). BF16 comes as float32; I8, FP8 and E8M0 as their bytes (uint8)."""
    data = path.read_bytes()
    size, = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + size])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = (8 + size + offset for offset in entry["data_offsets"])
        array = numpy.frombuffer(data[begin:end], _NUMPY[entry["dtype"]]).reshape(entry["shape"]).copy()
        tensor = torch.from_numpy(array)
        if entry["dtype"] == "BF16":
            tensor = tensor.view(torch.bfloat16).float()
        tensors[name] = (entry["dtype"], tensor)
    return tensors


def write_safetensors(path: Path, tensors: dict, metadata: dict | None = None):
    """tensors: name -> (dtype string, tensor). Data is laid out in the order given, each tensor 8-byte aligned by
    the order of the caller; the header is padded to 8 bytes."""
    header, chunks, offset = {}, [], 0
    if metadata:
        header["__metadata__"] = metadata
    for name, (dtype, tensor) in tensors.items():
        if dtype == "BF16":
            tensor = tensor.to(torch.bfloat16).view(torch.int16)
        raw = tensor.detach().contiguous().numpy().astype(_NUMPY[dtype], copy=False).tobytes()
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [offset, offset + len(raw)]}
        offset += len(raw)
        chunks.append(raw)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(chunks))


def read_checkpoint(directory: Path) -> dict:
    index = json.loads((directory / "model.safetensors.index.json").read_text())
    tensors = {}
    for shard in sorted(set(index["weight_map"].values())):
        tensors.update(read_safetensors(directory / shard))
    return tensors


def dequantise(tensors: dict) -> dict:
    """Official name -> float32 (or int64) tensor, scales folded in."""
    out = {}
    for name, (dtype, tensor) in tensors.items():
        if name.endswith(".scale"):
            continue
        scale = tensors.get(name.removesuffix(".weight") + ".scale")
        if scale is not None and dtype == "I8":
            tensor = quantise.unpack_fp4(tensor, scale[1])
        elif scale is not None:
            tensor = quantise.unpack_fp8(tensor, scale[1])
        out[name] = tensor
    return out


_HC = re.compile(r"(?:^|(?<=\.))(hc_attn|hc_ffn|hc_head)\.(fn|base|scale)$")
_EXPERTS = re.compile(r"(.*\.ffn)\.(experts|shared_experts)\.(w[123])$")


def official_tensors(net: Net) -> dict:
    """Official name -> tensor (a view of the parameter), in the order of the modules."""
    out = {}
    for name, tensor in [*net.named_parameters(), *net.named_buffers()]:
        if name.endswith((".freq", ".hadamard", ".load")):
            continue
        match = _EXPERTS.match(name)
        if match and match[2] == "shared_experts":
            out[f"{match[1]}.shared_experts.{match[3]}.weight"] = tensor[0]
        elif match:
            for e in range(tensor.shape[0]):
                out[f"{match[1]}.experts.{e}.{match[3]}.weight"] = tensor[e]
        else:
            out[_HC.sub(r"\1_\2", name)] = tensor
    out.setdefault("head.weight", net.head.weight)  # a tied head is not listed twice
    return out


def load_net(directory: str | Path, numerics: Numerics | None = None) -> Net:
    """The network of a checkpoint, dequantised. ValueError names tensors that are missing, left over or of another
    shape."""
    directory = Path(directory)
    net = Net(Config.load(directory / "config.json"), numerics)
    tensors, wanted = dequantise(read_checkpoint(directory)), official_tensors(net)
    if tensors.keys() != wanted.keys():
        raise ValueError(f"{directory}: tensors differ: {sorted(tensors.keys() ^ wanted.keys())[:8]}")
    with torch.no_grad():
        for name, target in wanted.items():
            if target.shape != tensors[name].shape:
                raise ValueError(f"{directory}: {name}: {tuple(tensors[name].shape)}, not {tuple(target.shape)}")
            target.copy_(tensors[name])
    return net.eval()
