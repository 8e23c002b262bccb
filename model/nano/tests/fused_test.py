"""The fused passes against the modules that they stand for: loss, index loss and every gradient. Needs torch and g++."""

import shutil
import unittest

try:
    import torch
except ImportError:
    raise unittest.SkipTest("no torch (install python3-torch)")
if shutil.which("g++") is None:
    raise unittest.SkipTest("no g++")

from model.nano import config, export, muon, net

TOKENS = 300


class Fused(unittest.TestCase):
    def model(self, topk: int, dense: bool) -> net.Net:
        torch.manual_seed(0)
        dimensions = config.nano(112)
        dimensions.index_topk = topk
        model = net.Net(dimensions, tie=True)
        export.hash_tables(model, 0)
        for name, p in model.named_parameters():
            if not muon.is_muon(name, p):  # norms, gates and biases away from ones and zeros
                p.data += torch.randn_like(p) * 0.1
        model.numerics.exact_ties = True
        model.set_dense_entries(dense)
        return model

    def pass_(self, model, fused: bool, mtp: bool = False, bf16: bool = False):
        model.zero_grad()
        model.numerics.fused, model.numerics.bf16_products = fused, bf16
        torch.manual_seed(1)
        ids = torch.randint(112, (2, TOKENS + 2))
        positions = torch.arange(TOKENS)[None].repeat(2, 1)
        positions[0, 128:] += 1024
        h = model.streams(ids[:, :-2], positions, want_index_loss=True)
        states = model.states(h)
        if mtp:
            states = model.mtp[0].states(h, model.embedded(ids[:, 1:-1]), ids[:, 1:-1], model.places(positions))
        weights = torch.rand(2 * TOKENS) / TOKENS
        entropy, losses, hits = model.entropy(states.flatten(0, 1), ids[:, 1:-1].flatten(), weights)
        index = sum(model.index_losses())
        (entropy + 0.3 * index).backward()
        return entropy.item(), index.item(), losses, hits.bool(), {n: p.grad for n, p in model.named_parameters()}

    def compare(self, topk: int, dense: bool, mtp: bool = False):
        """With a selection, rounding decides a near tie now and then: a few rows may differ, and gradients by little."""
        model = self.model(topk, dense)
        plain, fused = self.pass_(model, False, mtp), self.pass_(model, True, mtp)
        self.assertAlmostEqual(plain[0], fused[0], delta=1e-4 if dense else 1e-3)
        self.assertAlmostEqual(plain[1], fused[1], delta=1e-5 if dense else 1e-4)
        far = (plain[2] - fused[2]).abs() > 1e-3
        self.assertLessEqual(far.float().mean().item(), 0 if dense else 0.03)
        self.assertLessEqual((plain[3] != fused[3]).float().mean().item(), 0 if dense else 0.03)
        for name, g in plain[4].items():
            self.assertEqual(g is None, fused[4][name] is None, name)
            if g is not None:
                bound = (1e-3 if dense else 5e-2) * g.norm().item() + 1e-7
                self.assertLess((g - fused[4][name]).norm().item(), bound, name)

    def test_same_numbers_while_attention_sees_every_entry(self):
        self.compare(topk=64, dense=True)

    def test_same_numbers_with_selected_entries(self):
        self.compare(topk=16, dense=False)

    def test_same_numbers_through_the_draft_stage(self):
        self.compare(topk=16, dense=False, mtp=True)

    def test_same_numbers_with_rounded_weights_and_entries(self):
        """Rounding inside the modules, and around the fused passes: where a value lies between two of the grid, the
        order of sums decides, so figures agree as with a selection."""
        model = self.model(topk=64, dense=True)
        model.numerics.weights = model.numerics.kv = True
        plain = self.pass_(model, False)
        model.numerics.weights = False
        exact = {n: p.detach().clone() for n, p in model.named_parameters()}
        with model.stored_weights():
            changed = [n for n, p in model.named_parameters() if not torch.equal(p, exact[n])]
            fused = self.pass_(model, True)
        self.assertTrue(all(torch.equal(p, exact[n]) for n, p in model.named_parameters()))
        self.assertTrue({"embed.weight", "layers.1.ffn.experts.w2", "layers.0.attn.wq_a.weight"} <= set(changed))
        self.assertFalse(any("hc_" in n or n.endswith(("sink", "ape")) for n in changed))
        self.assertAlmostEqual(plain[0], fused[0], delta=2e-3)
        for name, g in plain[4].items():
            if g is not None:
                self.assertLess((g - fused[4][name]).norm().item(), 5e-2 * g.norm().item() + 1e-7, name)

    def test_bf16_products_are_near_the_float32_ones(self):
        """Here the matrix units come in, where there are any."""
        model = self.model(topk=64, dense=True)
        exact, rounded = self.pass_(model, True), self.pass_(model, True, bf16=True)
        self.assertAlmostEqual(exact[0], rounded[0], delta=2e-2)
        self.assertAlmostEqual(exact[1], rounded[1], delta=2e-2)
        for name, g in exact[4].items():
            if g is not None and muon.is_muon(name, g):
                self.assertLess((g - rounded[4][name]).norm().item(), 0.1 * g.norm().item(), name)


if __name__ == "__main__":
    unittest.main()
