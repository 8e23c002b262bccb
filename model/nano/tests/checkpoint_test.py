"""The shipped checkpoint in the C++ engine: it loads, and it works. Needs torch; HOLDFAST names the binary."""

import os
import random
import unittest
from pathlib import Path

try:
    import torch  # noqa: F401  evaluate needs it
except ImportError:
    raise unittest.SkipTest("no torch (install python3-torch)")

from model.nano import config, episodes, evaluate, train
from model.nano.teacher import Teacher
from model.nano.tests.teacher_test import FixedSources
from model.nano.tokenizer import Tokenizer

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = ROOT / "model" / "nano" / "checkpoint"
HOLDFAST = os.environ.get("HOLDFAST", str(ROOT / "build" / "dev" / "cli" / "holdfast"))
COUNT, WANTED = 8, 6  # the whole evaluation, on real headers, has hundreds; this shows that it is the one that was measured


@unittest.skipUnless(SHIPPED.exists(), "no checkpoint is shipped")
class Shipped(unittest.TestCase):
    def test_it_is_what_the_recipe_describes(self):
        self.assertEqual(config.Config.load(SHIPPED / "config.json"), config.nano(train.len_vocab()))
        self.assertEqual((SHIPPED / "tokenizer.json").read_bytes(), train.TOKENIZER.read_bytes())
        self.assertLess(sum(f.stat().st_size for f in SHIPPED.iterdir()), 10 << 20)

    @unittest.skipUnless(Path(HOLDFAST).exists(), "no holdfast binary")
    def test_it_finds_and_renames(self):
        judge = evaluate.Judge(evaluate.EngineDecoder(HOLDFAST, SHIPPED), HOLDFAST, Tokenizer(train.TOKENIZER))
        marks = episodes.Marks(train.TOKENIZER)
        for skill in ("find+prompt", "rename+prompt"):
            teachers = [Teacher(random.Random(seed), FixedSources, skill) for seed in range(COUNT)]
            for teacher in teachers:
                teacher.play()
            rendered = episodes.render([t.messages for t in teachers], HOLDFAST, train.TOKENIZER)
            solved = [judge.solved(t, ids, episodes.model_mask(ids, marks)) for t, ids in zip(teachers, rendered)]
            self.assertGreaterEqual(sum(solved), WANTED, (skill, solved))


if __name__ == "__main__":
    unittest.main()
