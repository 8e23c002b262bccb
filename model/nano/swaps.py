"""Other words for the words of an episode: what must be copied is then any token, each as often as any other.

Names made of words meet most tokens of the vocabulary a few times in thousands of episodes, and a token that was hardly
ever copied is not copied right. A swap puts one random word token in the place of another, everywhere in an episode,
so that the episode stays one; the words that the prompt, the tools and the teacher say stay what they are.
"""

import json
import random
import re
from pathlib import Path

import numpy

from model.nano import standin, teacher
from model.nano.tokenizer import Tokenizer

HERE = Path(__file__).parent
READ_SWAPPED = 3  # in a mask: read, and not predicted either (there is nothing to learn from random words)


class Swaps:
    def __init__(self, tokenizer: Path):
        vocab = json.loads(tokenizer.read_text())["model"]["vocab"]
        self.words = numpy.array(sorted(i for t, i in vocab.items() if re.fullmatch("_?[A-Za-z]{2,}", t)), numpy.uint16)
        said = fixed_tokens(Tokenizer(tokenizer))
        self.movable = numpy.array([i for i in self.words.tolist() if i not in said], numpy.uint16)
        self.size = 1 + max(vocab.values())

    def swapped(self, rng: random.Random, ids: numpy.ndarray, mask: numpy.ndarray):
        """-> (ids, mask) of the same episode with other words."""
        generator = numpy.random.default_rng(rng.getrandbits(63))
        table = numpy.arange(max(self.size, int(ids.max()) + 1), dtype=numpy.uint16)
        table[self.movable] = generator.permutation(self.words)[:len(self.movable)]
        return table[ids], numpy.where(mask == 0, numpy.uint8(READ_SWAPPED), mask)


def fixed_tokens(tokenizer: Tokenizer) -> set[int]:
    """The tokens of all that is no name: of chat format, prompt, tools and teacher, as their sources spell it."""
    sources = [Path(teacher.__file__), Path(standin.__file__), HERE / "prompt.txt", *sorted(standin.DATA.glob("*.json"))]
    texts = ["<tool_result>", *(path.read_text() for path in sources)]
    return {i for text in texts for i in tokenizer.encode(text, plain=True)}
