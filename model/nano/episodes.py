"""Episodes for nano: a scripted teacher at work on real trees, in the exact bytes that the agent will see.

    /usr/bin/python3 -m model.nano.episodes --skill find --count 2000 --seed 7 --out FILE.npz --holdfast BIN

A tree is a handful of installed headers with one name (and most paths) replaced by open-vocabulary ones. teacher.py
asks for tools, standin.py answers, and `holdfast model render --ids` turns the messages into ids. FILE.npz holds
ids (uint16, all episodes end to end), mask (uint8, see model_mask) and starts (int64).

Split "eval" uses other packages and other words, and other seeds, so other names; the single tokens are the same.
"""

import argparse
import hashlib
import json
import random
import subprocess
import sys
from pathlib import Path

import numpy

from model.nano import names
from model.nano.teacher import Teacher

HEADERS = Path("/usr/include")
TOKENIZER = Path(__file__).parent / "tokenizer.json"


class Sources:
    """Installed headers by package (first folder), of one split; the split of a package is in its name's hash."""

    def __init__(self, split: str, files_max: int = 2500):
        eval_split = split == "eval"
        self.packages = {}
        listed = sorted(p for p in HEADERS.rglob("*.h") if p.is_file() and 400 < p.stat().st_size < 40000)
        random.Random(3).shuffle(listed)
        for path in listed:
            relative = path.relative_to(HEADERS)
            package = relative.parts[0] if len(relative.parts) > 1 else "include"
            if (in_eval(package) == eval_split) and files_max > 0:
                text = path.read_text(errors="ignore").expandtabs(4)
                if text.isascii():
                    self.packages.setdefault(package, []).append((str(relative), text))
                    files_max -= 1
        self.packages = {k: v for k, v in sorted(self.packages.items()) if len(v) >= 3}
        all_words = names.words_of(t for files in self.packages.values() for _, t in files)
        self.words = names.Words([w for w in all_words if in_eval(w) == eval_split], names.pieces_of(TOKENIZER))


def in_eval(name: str) -> bool:
    return hashlib.sha256(name.encode()).digest()[0] < 32


class Marks:
    """Ids of the tokens that show where the model writes, and what of it is not markup."""

    def __init__(self, tokenizer: Path):
        data = json.loads(tokenizer.read_text())
        added = {t["content"]: t["id"] for t in data["added_tokens"]}
        vocab = data["model"]["vocab"]
        self.assistant, self.dsml = added["<｜Assistant｜>"], added["｜DSML｜"]
        self.eos = added["<｜end▁of▁sentence｜>"]
        self.true, self.open, self.close = vocab["true"], vocab['">'], vocab["</"]


def model_mask(ids: list[int], marks: Marks) -> list[int]:
    """0 on what the model reads; on what it writes (after the header of an assistant turn, up to and with its EOS) 1,
    or 2 on the text of string parameters and of answers: what must be copied or chosen."""
    mask, turn, value = [], None, False
    for t, token in enumerate(ids):
        if turn is None:
            mask.append(0)
            if t > 0 and ids[t - 1] == marks.assistant:
                turn, value = t + 1, False
            continue
        if value and token == marks.close:
            value = False
        mask.append(2 if value else 1)
        if token == marks.open and ids[t - 1] == marks.true:
            value = True
        if token == marks.eos:
            if marks.dsml not in ids[turn:t]:
                mask[turn:t + 1] = [2] * (t + 1 - turn)
            turn = None
    return mask


def render(episodes: list[list[dict]], holdfast: str, tokenizer: Path) -> list[list[int]]:
    feed = "".join(json.dumps({"messages": m, "thinking_mode": "chat"}) + "\n" for m in episodes)
    result = subprocess.run([holdfast, "model", "render", "--ids", "--tokenizer", str(tokenizer)], input=feed, text=True,
                            check=True, capture_output=True)
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    for messages, line in zip(episodes, lines):
        if "error" in line:
            raise ValueError(f"cannot render {messages}: {line['error']}")
    return [line["ids"] for line in lines]


def play(skill: str, count: int, seed: int, split: str, sources: Sources) -> list[Teacher]:
    """Played episodes, the same for the same arguments and the same installed headers."""
    rng = random.Random(f"{split}/{skill}/{seed}")
    teachers = [Teacher(random.Random(rng.getrandbits(64)), sources, skill) for _ in range(count)]
    for teacher in teachers:
        teacher.play()
    return teachers


def generate(skill: str, count: int, seed: int, split: str, holdfast: str, tokenizer: Path, sources=None):
    """-> (ids, mask, starts) as numpy arrays."""
    episodes = [teacher.messages for teacher in play(skill, count, seed, split, sources or Sources(split))]
    marks = Marks(tokenizer)
    rendered = render(episodes, holdfast, tokenizer)
    starts = numpy.cumsum([0] + [len(r) for r in rendered[:-1]])
    mask = [m for r in rendered for m in model_mask(r, marks)]
    return numpy.array(sum_lists(rendered), numpy.uint16), numpy.array(mask, numpy.uint8), starts.astype(numpy.int64)


def sum_lists(lists):
    return [x for items in lists for x in items]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--skill", default="find")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--split", choices=["train", "eval"], default="train")
    parser.add_argument("--holdfast", default="build/dev/cli/holdfast")
    parser.add_argument("--tokenizer", type=Path, default=TOKENIZER)
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    ids, mask, starts = generate(args.skill, args.count, args.seed, args.split, args.holdfast, args.tokenizer)
    numpy.savez_compressed(args.out, ids=ids, mask=mask, starts=starts)
    print(f"{len(starts)} episodes, {len(ids)} tokens ({len(ids) / len(starts):.0f} each), "
          f"{(mask > 0).sum() / len(starts):.0f} of them the model's, "
          f"{(mask == 2).sum() / len(starts):.0f} not markup")
    return 0


if __name__ == "__main__":
    sys.exit(main())
