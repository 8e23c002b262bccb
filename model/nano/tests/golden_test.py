"""The PyTorch network against the official code's outputs (tiny-a, tiny-b of the golden data).

    /usr/bin/python3 -m model.nano.tests.golden_test        from the repository's root

Golden data is looked for in shared/golden beside or inside the repository; without it, or without torch, the test
says so and passes.
"""

import json
import struct
import sys
from pathlib import Path

BOUND = 5e-4
ROOT = Path(__file__).resolve().parents[3]


def golden_folder():
    for folder in (ROOT / "shared/golden", ROOT.parent / "shared/golden"):
        if (folder / "tiny-a").is_dir():
            return folder
    return None


def hidden_positions(path: Path) -> list[int]:
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    return json.loads(header["__metadata__"]["hidden_positions"])


def check(folder: Path) -> bool:
    import torch
    from model.nano import checkpoint
    golden = {name: tensor for name, (_, tensor) in checkpoint.read_safetensors(folder / "golden.safetensors").items()}
    net = checkpoint.load_net(folder)
    net.numerics.exact_ties = True
    ids = golden["input_ids"].long()[None]
    with torch.no_grad():
        h = net.streams(ids)
        logits = net.logits(net.states(h))[0]
        mtp = net.mtp_logits(ids, h)[0]
    worst = (logits - golden["f32.logits"]).abs().max().item()
    at = hidden_positions(folder / "golden.safetensors")
    mtp_worst = (mtp[at] - golden["f32.mtp.logits"]).abs().max().item()
    print(f"{folder.name}: {len(logits)} positions, max abs difference of logits {worst:.2e}, of MTP {mtp_worst:.2e}")
    return max(worst, mtp_worst) <= BOUND


def main() -> int:
    try:
        import torch  # noqa: F401
    except ImportError:
        print("skipped: no torch (install python3-torch)")
        return 0
    folder = golden_folder()
    if folder is None:
        print("skipped: no golden data")
        return 0
    return 0 if all([check(folder / name) for name in ("tiny-a", "tiny-b")]) else 1


if __name__ == "__main__":
    sys.exit(main())
