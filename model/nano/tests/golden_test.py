"""The PyTorch network against the official code's outputs (tiny-a, tiny-b of the golden data).

Golden data is looked for in shared/golden beside or inside the repository; without it the test is skipped.
"""

import json
import struct
import unittest
from pathlib import Path

try:
    import torch
except ImportError:
    raise unittest.SkipTest("no torch (install python3-torch)")

from model.nano import checkpoint

BOUND = 5e-4
ROOT = Path(__file__).resolve().parents[3]
FOLDERS = [f for f in (ROOT / "shared/golden", ROOT.parent / "shared/golden") if (f / "tiny-a").is_dir()]


def hidden_positions(path: Path) -> list[int]:
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    return json.loads(header["__metadata__"]["hidden_positions"])


@unittest.skipUnless(FOLDERS, "no golden data")
class Golden(unittest.TestCase):
    def check(self, name: str):
        folder = FOLDERS[0] / name
        golden = {n: t for n, (_, t) in checkpoint.read_safetensors(folder / "golden.safetensors").items()}
        net = checkpoint.load_net(folder)
        net.numerics.exact_ties = True
        ids = golden["input_ids"].long()[None]
        with torch.no_grad():
            h = net.streams(ids)
            logits, mtp = net.logits(net.states(h))[0], net.mtp_logits(ids, h)[0]
        worst = (logits - golden["f32.logits"]).abs().max().item()
        at = hidden_positions(folder / "golden.safetensors")
        mtp_worst = (mtp[at] - golden["f32.mtp.logits"]).abs().max().item()
        print(f"{name}: {len(logits)} positions, max abs difference of logits {worst:.2e}, of MTP {mtp_worst:.2e}")
        self.assertLessEqual(max(worst, mtp_worst), BOUND)

    def test_tiny_a_matches_the_official_float32_logits(self):
        self.check("tiny-a")

    def test_tiny_b_matches_the_official_float32_logits(self):
        self.check("tiny-b")


if __name__ == "__main__":
    unittest.main()
