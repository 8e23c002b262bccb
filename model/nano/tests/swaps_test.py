"""Episodes with other words: still the same episodes, and every word token gets to be copied. Needs numpy."""

import collections
import random
import unittest

try:
    import numpy
except ImportError:
    raise unittest.SkipTest("no numpy")

from model.nano import episodes, swaps
from model.nano.tokenizer import Tokenizer

TEXT = 'Rename `old_name` to `tracking`.\nsrc/tracking.h\n12:#define old_name tracking "name"\n'


class Swapping(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.swaps, cls.tokenizer = swaps.Swaps(episodes.TOKENIZER), Tokenizer(episodes.TOKENIZER)
        cls.ids = numpy.array(cls.tokenizer.encode(TEXT), numpy.uint16)

    def swapped(self, seed: int):
        mask = numpy.arange(len(self.ids), dtype=numpy.uint8) % 3
        return (*self.swaps.swapped(random.Random(seed), self.ids, mask), mask)

    def test_a_token_becomes_the_same_other_one_everywhere_and_no_two_become_one(self):
        for seed in range(50):
            made, _, _ = self.swapped(seed)
            pairs = {(a, b) for a, b in zip(self.ids.tolist(), made.tolist()) if a in self.swaps.movable}
            self.assertEqual(len({a for a, _ in pairs}), len(pairs), seed)
            self.assertEqual(len({b for _, b in pairs}), len(pairs), seed)

    def test_what_prompt_tools_and_teacher_say_stays(self):
        said = ["Rename", "define", "Failed", "no hits", "<tool_result>", "pattern", "replaced"]
        for text in said:
            for token in self.tokenizer.encode(text, plain=True):
                self.assertNotIn(token, self.swaps.movable.tolist(), text)
        for seed in range(50):
            made, _, _ = self.swapped(seed)
            kept = ~numpy.isin(self.ids, self.swaps.movable)
            self.assertTrue((made[kept] == self.ids[kept]).all())
        self.assertGreater(len(self.swaps.movable), 2000)

    def test_what_is_read_is_not_predicted_and_what_is_written_is(self):
        _, made, mask = self.swapped(1)
        self.assertEqual(collections.Counter(zip(mask.tolist(), made.tolist())).keys(),
                         {(0, swaps.READ_SWAPPED), (1, 1), (2, 2)})

    def test_every_word_token_comes_up(self):
        name = numpy.array(self.tokenizer.encode("tracking"), numpy.uint16)
        self.assertIn(name[0], self.swaps.movable)
        seen = {int(self.swaps.swapped(random.Random(seed), name, name * 0)[0][0]) for seed in range(20000)}
        self.assertGreater(len(seen), 0.98 * len(self.swaps.words))
        self.assertLessEqual(seen, set(self.swaps.words.tolist()))


if __name__ == "__main__":
    unittest.main()
