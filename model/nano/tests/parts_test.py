"""The parts of nano's training, each against a naive twin or a property. Needs torch; skips itself without it.

    /usr/bin/python3 -m model.nano.tests parts
"""

import random
import tempfile
import unittest
from unittest import mock
from pathlib import Path

try:
    import torch
except ImportError:
    raise unittest.SkipTest("no torch (install python3-torch)")

from model.nano import attention, checkpoint, config, episodes, export, grow, muon, net, products, quantise, state, train
from model.nano.quantise import Numerics


def small_net(seed: int = 0, numerics: Numerics | None = None) -> net.Net:
    torch.manual_seed(seed)
    made = net.Net(config.nano(97), numerics)
    export.hash_tables(made, seed)
    return made.eval()


class NumberFormats(unittest.TestCase):
    def test_rounding_finds_the_nearest_value_of_the_table(self):
        torch.manual_seed(1)
        x = torch.randn(4000) * torch.tensor([1e-3, 0.1, 3.0, 200.0]).repeat(1000)
        for rounding, table, largest in ((quantise.round_e4m3, quantise.E4M3[:127], 448.0),
                                         (quantise.round_e2m1, quantise.E2M1[:8], 6.0)):
            clamped = x.clamp(-largest, largest)
            best = (clamped.abs()[:, None] - table).abs().min(1).values
            self.assertTrue(torch.equal((rounding(x) - clamped).abs(), best))

    def test_ties_go_to_even_codes(self):
        x = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0])
        self.assertEqual(quantise.round_e2m1(x).tolist(), [0, 1, 1, 2, 2, 4, 4])

    def test_scale_is_the_smallest_power_of_two_that_fits(self):
        scales = quantise.power_of_two_scale(torch.tensor([6.0, 6.01, 3.0, 448.0]), 6.0)
        self.assertEqual(scales.tolist(), [1.0, 2.0, 0.5, 128.0])

    def test_packing_keeps_the_rounded_values(self):
        torch.manual_seed(2)
        w = torch.randn(200, 160)
        self.assertTrue(torch.equal(quantise.unpack_fp8(*quantise.pack_fp8(w)), quantise.tiles_fp8(w)))
        self.assertTrue(torch.equal(quantise.unpack_fp4(*quantise.pack_fp4(w)), quantise.groups_fp4(w)))

    def test_rounding_lets_gradients_through(self):
        x = torch.randn(4, 64, requires_grad=True)
        quantise.fake_fp4(x).sum().backward()
        self.assertTrue(torch.equal(x.grad, torch.ones_like(x)))


class Network(unittest.TestCase):
    def test_later_tokens_do_not_reach_earlier_logits(self):
        model = small_net(numerics=Numerics(exact_ties=True))  # else a tie may fall otherwise in a shorter list
        ids = torch.randint(97, (2, 300))
        with torch.no_grad():
            whole = model(ids)
            for cut in (1, 63, 64, 129, 299):
                part = model(ids[:, :cut])
                self.assertLess((part - whole[:, :cut]).abs().max().item(), 1e-4, cut)

    def test_a_shift_of_all_positions_changes_nothing(self):
        model = small_net()
        ids = torch.randint(97, (1, 200))
        positions = torch.arange(200)[None]
        with torch.no_grad():
            near, far = model(ids, positions), model(ids, positions + 128 * 40)
        self.assertLess((near - far).abs().max().item(), 2e-2)  # angles are rounded more coarsely far out

    def test_a_jump_empties_the_window(self):
        positions = torch.cat([torch.arange(128), torch.arange(128) + 1024])[None]
        mask = attention.window_mask(positions, 64, 4)
        self.assertEqual(mask[0, 2, 0].sum().item(), 1)
        self.assertEqual(mask[0, 2, 63].sum().item(), 64)

    def test_comb_is_doubly_stochastic(self):
        comb = net.sinkhorn(torch.randn(10, 4, 4), 20, 1e-6)
        self.assertLess((comb.sum(-1) - 1).abs().max().item(), 1e-3)
        self.assertLess((comb.sum(-2) - 1).abs().max().item(), 1e-3)

    def test_index_loss_is_zero_when_the_scores_are_the_log_of_the_mass(self):
        mass = torch.rand(1, 5, 7)
        mask = torch.ones(1, 5, 7, dtype=torch.bool)
        self.assertLess(abs(attention.index_loss(mass.log(), mass, mask).item()), 1e-6)

    def test_index_loss_reaches_the_indexer_only(self):
        model = small_net().train()
        model.streams(torch.randint(97, (1, 64)), want_index_loss=True)
        sum(model.index_losses()).backward()
        reached = {n for n, p in model.named_parameters() if p.grad is not None}
        self.assertTrue(reached and all(".indexer." in n for n in reached), reached)

    def test_topk_mask_keeps_k_and_ties_go_to_the_lower_index(self):
        indexer = small_net(numerics=Numerics(exact_ties=True)).layers[1].attn.indexer
        indexer.topk = 3
        scores = torch.tensor([[[0.0, 1.0, 0.0, 0.0, 2.0]]])
        mask = indexer.select(scores, torch.ones(1, 1, 5, dtype=torch.bool))
        self.assertEqual(mask[0, 0].tolist(), [True, True, False, False, True])


class Gradients(unittest.TestCase):
    def test_own_gradients_are_those_of_the_plain_expressions(self):
        torch.manual_seed(4)
        y, h, post, comb = (torch.randn(*shape, dtype=torch.float64, requires_grad=True)
                            for shape in ((2, 3, 5), (2, 3, 2, 5), (2, 3, 2), (2, 3, 2, 2)))
        self.assertTrue(torch.autograd.gradcheck(products.mix_streams, (y, h, post, comb)))
        self.assertTrue(torch.autograd.gradcheck(lambda x: products.rms(x, 1e-6), (h,)))
        plain = post[..., None] * y[..., None, :] + torch.einsum("btjk,btjd->btkd", comb, h)
        self.assertTrue(torch.allclose(products.mix_streams(y, h, post, comb), plain))

    def test_bf16_products_are_near_the_float32_ones(self):
        x, w = torch.randn(50, 64, requires_grad=True), torch.randn(30, 64, requires_grad=True)
        grads = []
        for bf16 in (False, True):
            (products.linear(x, w, bf16) ** 2).sum().backward()
            grads.append((x.grad.clone(), w.grad.clone()))
            x.grad = w.grad = None
        for plain, fast in zip(*grads):
            self.assertLess((plain - fast).norm() / plain.norm(), 0.02)


class Checkpoint(unittest.TestCase):
    def test_export_and_load_give_the_quantised_network(self):
        model = small_net(3, Numerics(weights=True))
        ids = torch.randint(97, (1, 150))
        with tempfile.TemporaryDirectory() as folder:
            export.export(model, folder)
            loaded = checkpoint.load_net(folder)
        with torch.no_grad():
            self.assertLess((loaded(ids) - model(ids)).abs().max().item(), 1e-4)


class Optimiser(unittest.TestCase):
    def test_newton_schulz_brings_singular_values_near_one(self):
        for shape in ((1, 128, 64), (1, 64, 128), (3, 96, 96)):
            values = torch.linalg.svdvals(muon.newton_schulz(torch.randn(shape)))
            self.assertLess((values - 1).abs().max().item(), 0.35, shape)
            self.assertLess((values - 1).abs().mean().item(), 0.05, shape)

    def test_adamw_has_what_muon_has_not(self):
        model = small_net()
        optimizer = muon.Optimizer(model)
        for name in ("embed.weight", "head.weight", "layers.0.hc_attn.fn", "layers.1.attn.compressor.ape"):
            self.assertNotIn(name, optimizer.matrices)
        for name in ("layers.0.attn.wq_a.weight", "layers.0.ffn.experts.w1", "mtp.0.e_proj.weight"):
            self.assertIn(name, optimizer.matrices)


class Episodes(unittest.TestCase):
    def test_the_mask_is_on_what_the_model_writes(self):
        marks = episodes.Marks(train.TOKENIZER)
        a, d, e, t, o, c = marks.assistant, marks.dsml, marks.eos, marks.true, marks.open, marks.close
        ids = [9, a, 8, 50, d, t, o, 60, 61, c, d, e, 9, 9, a, 8, 70, 71, e, 9]
        self.assertEqual(episodes.model_mask(ids, marks), [0, 0, 0, 1, 1, 1, 1, 2, 2, 1, 1, 1, 0, 0, 0, 0, 2, 2, 2, 0])


class FixedData:
    """Random tokens in place of episodes."""

    def batch(self, stage, step):
        generator = torch.Generator().manual_seed(step)
        rows = torch.randint(4096, (2, 66), generator=generator)
        return rows, torch.randint(3, (2, 66), generator=generator), torch.arange(64)[None].expand(2, -1)


class Training(unittest.TestCase):
    def test_positions_rise_and_episodes_that_stand_apart_are_out_of_each_others_window(self):
        starts = [0, 70, 71, 300, 509, 2000]
        for seed in range(50):
            places = train.spread_positions(random.Random(seed), 512, starts)
            self.assertTrue((places.diff() > 0).all(), seed)
            self.assertLess(places[-1].item(), 1 << 20)
            for start in starts[1:-1]:
                self.assertGreater((places[start] - places[start - 1]).item(), train.WINDOW, seed)
            together = train.spread_positions(random.Random(seed), 512, [])
            steps = (together.diff() != 1).nonzero()[:, 0] + 1
            self.assertTrue((steps % 128 == 0).all(), seed)

    def test_a_saved_run_goes_on_as_if_it_had_not_stopped(self):
        torch.set_num_threads(1)
        whole, cut = train.Trainer(5), train.Trainer(5)
        figures = [whole.train_step(FixedData()) for _ in range(4)]
        cut.train_step(FixedData())
        cut.train_step(FixedData())
        with tempfile.TemporaryDirectory() as folder:
            cut.save(Path(folder) / "s.pt")
            cut = train.Trainer.load(Path(folder) / "s.pt")
        self.assertEqual([cut.train_step(FixedData()) for _ in range(2)], figures[2:])

    def test_the_average_follows_the_weights_and_stands_in_for_them_for_a_while(self):
        torch.set_num_threads(1)
        trainer = train.Trainer(5)
        wanted = [t.clone() for t in trainer.learnt()]
        for _ in range(3):
            trainer.train_step(FixedData())
            wanted = [w + (t - w) / train.AVERAGED for w, t in zip(wanted, trainer.learnt())]
        self.assertGreater(len(wanted), len(list(trainer.net.parameters())))  # the experts' biases too
        exact = [t.detach().clone() for t in trainer.learnt()]
        with trainer.averaged():
            for t, w, e in zip(trainer.learnt(), wanted, exact):
                self.assertLess((t - w).norm().item(), 1e-5 * (1 + w.norm().item()))
            self.assertFalse(torch.equal(trainer.net.embed.weight, exact[0]))
        self.assertTrue(all(torch.equal(t, e) for t, e in zip(trainer.learnt(), exact)))

    def test_a_packed_state_goes_on_from_the_average_with_nearly_the_momentum(self):
        torch.set_num_threads(1)
        trainer = train.Trainer(5)
        trainer.train_step(FixedData())
        with tempfile.TemporaryDirectory() as folder:
            trainer.save(Path(folder) / "s.pt")
            state.pack(Path(folder) / "s.pt", Path(folder) / "packed")
            state.unpack(Path(folder) / "packed", Path(folder) / "u.pt")
            other = train.Trainer.load(Path(folder) / "u.pt")
        trainer.settle()
        self.assertEqual(trainer.train_step(FixedData()), other.train_step(FixedData()))  # before any update
        for (name, p), q in zip(trainer.net.named_parameters(), other.net.parameters()):
            self.assertLess((p - q).norm().item(), 1e-3 * p.norm().item() + 1e-5, name)

    def test_a_grown_state_goes_on_from_the_same_network(self):
        """With nothing in the new channels the logits stay; the optimiser's state fits and a step can be taken."""
        torch.set_num_threads(1)
        narrow = config.nano(4096)
        narrow.head_dim, narrow.sliding_window = 80, 64
        trainer = train.Trainer(6, dimensions=narrow)
        trainer.train_step(FixedData())
        ids = torch.randint(4096, (1, 130))
        with torch.no_grad():
            before = trainer.net(ids)
        with tempfile.TemporaryDirectory() as folder, mock.patch.multiple(grow, SMALL=0.0, PREFERENCE=0.0):
            trainer.save(Path(folder) / "s.pt")
            grown = grow.grow(torch.load(Path(folder) / "s.pt"), 144, 64, trainer.optimizer.adam_names)
            torch.save(grown, Path(folder) / "g.pt")
            trainer = train.Trainer.load(Path(folder) / "g.pt")
        self.assertEqual(trainer.net.config.head_dim, 144)
        with torch.no_grad():
            self.assertLess((trainer.net(ids) - before).abs().max().item(), 1e-3)
        trainer.train_step(FixedData())


if __name__ == "__main__":
    unittest.main()
