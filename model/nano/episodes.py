"""Episodes for nano: a scripted teacher at work on real trees, in the exact bytes that the agent will see.

    /usr/bin/python3 -m model.nano.episodes --level 1 --count 2000 --seed 7 --out FILE.npz --holdfast BIN

A tree is a handful of installed headers with one name (and most paths) replaced by open-vocabulary ones. The teacher
asks for tools, standin.py answers, and `holdfast model render --ids` turns the messages into ids. FILE.npz holds
ids (uint16, all episodes end to end), mask (uint8, see model_mask) and starts (int64).

Levels: -1 drills (repeat a string, look one up in a list), copying and nothing else; 0 one-line trees, find only;
1 find in small real trees; 2 find and rename in small real trees; 3 as 2, more files, with the check command; 4 as 3
with nano's prompt prefix. Split "eval" uses other packages and other words.
"""

import argparse
import hashlib
import json
import random
import re
import subprocess
import sys
from pathlib import Path

import numpy

from model.nano import names, standin

HEADERS = Path("/usr/include")
CHECKS = ["make check", "ctest", "ninja test", "make -s", "./check.sh", "scripts/test"]


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
        self.words = [w for w in all_words if in_eval(w) == eval_split]


def in_eval(name: str) -> bool:
    return hashlib.sha256(name.encode()).digest()[0] < 32


class Teacher:
    """Plays one episode: messages with the calls of a perfect agent and the stand-in's answers."""

    def __init__(self, rng: random.Random, sources: Sources, level: int):
        self.rng, self.sources, self.level = rng, sources, level
        self.messages = []
        self.tools = None

    def play(self) -> list[dict]:
        if self.level >= 4:
            profile = standin.load_profile()
            functions = [standin.load_tool(t)["function"] for t in profile["tools"]]
            self.messages.append({"role": "system", "content": profile["system"],
                                  "tools": [{"type": "function", "function": f} for f in functions]})
        if self.level < 0:
            self._drill()
            return self.messages
        rename = self.level >= 2 and self.rng.random() < 0.6
        self._rename() if rename else self._find()
        return self.messages

    def _user(self, text: str):
        self.messages.append({"role": "user", "content": text})

    def _say(self, text: str):
        self.messages.append({"role": "assistant", "content": text})

    def _call(self, calls: list[tuple[str, dict]]) -> list[str]:
        listed = [{"id": str(i), "type": "function", "function": {"name": n, "arguments": json.dumps(a)}}
                  for i, (n, a) in enumerate(calls)]
        self.messages.append({"role": "assistant", "content": "", "tool_calls": listed})
        results = [self.tools.call(n, a) for n, a in calls]
        for i, result in enumerate(results):
            self.messages.append({"role": "tool", "tool_call_id": str(i), "content": result})
        return results

    # --- drills ---

    def _drill(self):
        """A list of `name:what` lines, then short questions that are answered by copying."""
        rng, words = self.rng, self.sources.words

        def string():
            return rng.choice([names.identifier(rng, words, 3), names.path(rng, words), names.value(rng)])
        entries = [(names.identifier(rng, words, 2), string()) for _ in range(rng.randint(2, 5))]
        self._user("\n".join(f"{name}:{what}" for name, what in entries) + "\n")
        self._say("ok")
        for _ in range(rng.randint(3, 6)):
            if rng.random() < 0.5:
                name, what = rng.choice(entries)
                self._user(f"`{name}`?")
                self._say(what)
            else:
                what = string()
                self._user(f"Say {what}")
                self._say(what)

    # --- find ---

    def _find(self):
        name, self.tools = self._find_tree()
        asks_value = self.rng.random() < 0.5
        self._user(self.rng.choice(["What is the value of `{}`?", "What is `{}` set to?"]).format(name) if asks_value
                   else self.rng.choice(["Where is `{}` defined?", "Find `{}`."]).format(name))
        found, = self._call([("grep", {"pattern": name})])
        place = definition(found, name)
        if place is None:
            self._say(f"No hits for `{name}`.")
        elif asks_value:
            self._say(f"{place[2]} in {place[0]}:{place[1]}")
        else:
            self._say(f"{place[0]}:{place[1]}")

    def _find_tree(self) -> tuple[str, standin.StandIn]:
        rng, words = self.rng, self.sources.words
        name = names.identifier(rng, words, 2 if self.level == 0 else 4)
        files = {}
        if self.level > 0:
            files = self._real_files(rng.randint(2, 5))
        target = names.path(rng, words, 1 if self.level == 0 else 2)
        lines = list(files.popitem()[1].split("\n")) if files else [""] * rng.randint(0, 300)
        lines.insert(rng.randint(0, len(lines)), f"#define {name} {names.value(rng)}")
        if rng.random() < 0.05:
            name = names.identifier(rng, words, 3)  # one that is not there
        files[target] = "\n".join(lines)
        if self.level > 0 and files:
            self._sprinkle(files, name)
        return name, standin.StandIn(files)

    def _sprinkle(self, files: dict[str, str], name: str):
        """Uses of a name in real lines: an identifier of the tree becomes it."""
        for path in self.rng.sample(sorted(files), min(len(files), self.rng.randint(0, 2))):
            old = self._frequent(files[path])
            if old:
                files[path] = standin.whole_word(old).sub(name, files[path])

    def _frequent(self, text: str) -> str | None:
        """An identifier that stands on one to three lines."""
        found = re.findall(r"\b[A-Za-z_][A-Za-z0-9_]{4,30}\b", text)
        few = sorted(i for i in set(found) if 1 <= found.count(i) <= 3) if len(found) < 3000 else []
        return self.rng.choice(few) if few else None

    def _real_files(self, count: int) -> dict[str, str]:
        package = self.sources.packages[self.rng.choice(list(self.sources.packages))]
        files = {}
        for path, text in self.rng.sample(package, min(count, len(package))):
            if self.rng.random() < 0.7:
                path = names.path(self.rng, self.sources.words)
            files[path] = text
        return files

    # --- rename ---

    def _rename(self):
        rng, words = self.rng, self.sources.words
        old = new = names.identifier(rng, words)
        while new == old:
            new = names.identifier(rng, words)
        files = self._real_files(rng.randint(2, 3) if self.level == 2 else rng.randint(2, 6))
        touched = 0
        for path in sorted(files):
            victim = self._frequent(files[path])
            if victim and (touched == 0 or rng.random() < 0.6):
                files[path] = standin.whole_word(victim).sub(old, files[path])
                touched += 1
        check = rng.choice(CHECKS) if self.level >= 3 and rng.random() < 0.7 else None
        passes = rng.random() < 0.8
        output = rng.choice(["", "ok\n", "all tests passed\n"]) if passes else "FAIL: " + names.identifier(rng, words) + "\n"
        self.tools = standin.StandIn(files, {check: (output, 0 if passes else rng.choice([1, 2]))})
        self._user(f"Rename `{old}` to `{new}`" + (f", then run `{check}`." if check else "."))
        found, = self._call([("grep", {"pattern": old})])
        paths = [line for line in found.split("\n") if line in self.tools.files]
        if not paths:
            return self._say(f"No hits for `{old}`.")
        self._call([("edit", {"path": p, "old": old, "new": new}) for p in paths])
        self._call([("grep", {"pattern": old})])
        done = f"Renamed in {len(paths)} file" + ("s" if len(paths) > 1 else "")
        if check is None:
            return self._say(done + ".")
        self._call([("bash", {"command": check})])
        self._say(done + (", the check passes." if passes else ", the check fails."))


def definition(result: str, name: str) -> tuple[str, str, str] | None:
    """(path, line, value) of the first #define of a name in a grep result."""
    path = ""
    for line in result.split("\n"):
        hit = re.match(r"(\d+):(.*)", line)
        if not hit:
            path = line
            continue
        found = re.match(rf"#define {re.escape(name)} (.*)", hit[2])
        if found:
            return path, hit[1], found[1]
    return None


class Marks:
    """Ids of the tokens that show where the model writes, and what of it is not markup."""

    def __init__(self, tokenizer: Path):
        data = json.loads(tokenizer.read_text())
        added = {t["content"]: t["id"] for t in data["added_tokens"]}
        vocab = data["model"]["vocab"]
        self.assistant, self.dsml, self.eos = added["<｜Assistant｜>"], added["｜DSML｜"], added["<｜end▁of▁sentence｜>"]
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


def generate(level: int, count: int, seed: int, split: str, holdfast: str, tokenizer: Path, sources=None):
    """-> (ids, mask, starts) as numpy arrays."""
    sources = sources or Sources(split)
    rng = random.Random(f"{split}/{level}/{seed}")
    episodes = [Teacher(random.Random(rng.getrandbits(64)), sources, level).play() for _ in range(count)]
    marks = Marks(tokenizer)
    rendered = render(episodes, holdfast, tokenizer)
    starts = numpy.cumsum([0] + [len(r) for r in rendered[:-1]])
    mask = [m for r in rendered for m in model_mask(r, marks)]
    return numpy.array(sum_lists(rendered), numpy.uint16), numpy.array(mask, numpy.uint8), starts.astype(numpy.int64)


def sum_lists(lists):
    return [x for items in lists for x in items]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--level", type=int, default=1)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--split", choices=["train", "eval"], default="train")
    parser.add_argument("--holdfast", default="build/dev/cli/holdfast")
    parser.add_argument("--tokenizer", type=Path, default=Path(__file__).parent / "tokenizer.json")
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    ids, mask, starts = generate(args.level, args.count, args.seed, args.split, args.holdfast, args.tokenizer)
    numpy.savez_compressed(args.out, ids=ids, mask=mask, starts=starts)
    print(f"{len(starts)} episodes, {len(ids)} tokens ({len(ids) / len(starts):.0f} each), "
          f"{(mask > 0).sum() / len(starts):.0f} of them the model's, "
          f"{(mask == 2).sum() / len(starts):.0f} not markup")
    return 0


if __name__ == "__main__":
    sys.exit(main())
