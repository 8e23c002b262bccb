"""Nano's tokenizer: byte-level BPE with the official split patterns and control tokens.

    /usr/bin/python3 -m model.nano.tokenizer train               writes model/nano/tokenizer.json
    /usr/bin/python3 -m model.nano.tokenizer check --holdfast BIN   1,000 lines, this code against the C++ tokenizer

A string that is to be copied must be the same tokens wherever it stands. So the merges are restricted: no token joins
a space or a punctuation mark to the letters after it, except `_` and `/` (which stand inside names and paths), a list
of function words with their space, and a list of file extensions. Ids: 0 to 2 and the last ones are control tokens.
Trained on this repository, installed headers and Debian documents; the fixed text of the tools block counts extra.
"""

import argparse
import collections
import functools
import gzip
import heapq
import json
import random
import re
import subprocess
import sys
import unicodedata
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
TOKENIZER = HERE / "tokenizer.json"
VOCAB_SIZE = 4096

PATTERNS = [
    r"\p{N}{1,3}",
    "[一-龥぀-ゟ゠-ヿ]+",
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+|"
    " ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
]
FIRST_CONTROL = ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"]
LAST_CONTROL = ["<｜User｜>", "<｜Assistant｜>", "<think>", "</think>", "｜DSML｜", "<｜latest_reminder｜>",
                "<｜action｜>", "<｜query｜>", "<｜authority｜>", "<｜domain｜>", "<｜title｜>", "<｜extracted_url｜>",
                "<｜read_url｜>"]
FUNCTION_WORDS = """a all also an and any are as at be been but by can could do does for from had has have if in into is
 it its like may must no not of on one only or other our same should so such than that the their them then there these
 they this to use used was we were what when where which while will with would you your""".split()
EXTENSIONS = ["h", "c", "cc", "cpp", "hpp", "py", "md", "json", "txt", "conf"]


# --- pre-tokenisation ---------------------------------------------------------------------------------

@functools.lru_cache
def character_class(prefix: str) -> str:
    """The inside of a character class with all code points of the Unicode categories of one letter, and `s` for
    white space as PCRE2 has it."""
    def belongs(point: int) -> bool:
        if prefix == "s":
            return point in (9, 10, 11, 12, 13, 0x85) or unicodedata.category(chr(point))[0] == "Z"
        return unicodedata.category(chr(point))[0] == prefix
    ranges, start = [], None
    for point in range(0x110001):
        inside = point < 0x110000 and belongs(point)
        if inside and start is None:
            start = point
        elif not inside and start is not None:
            ranges.append(f"\\U{start:08x}-\\U{point - 1:08x}")
            start = None
    return "".join(ranges)


@functools.lru_cache
def compiled() -> list:
    """PATTERNS for Python's re, which knows no \\p."""
    out = []
    for pattern in PATTERNS:
        inside = not pattern.startswith(r"\p")  # of a class, in all patterns but the first
        form = "{}" if inside else "[{}]"
        pattern = re.sub(r"\\p\{(\w)\}", lambda m: form.format(character_class(m[1])), pattern)
        space = character_class("s")
        pattern = pattern.replace(r"\S", f"[^{space}]").replace(r"\s", f"[{space}]")
        out.append(re.compile(pattern))
    return out


def split(text: str) -> list[str]:
    pieces = [text]
    for pattern in compiled():
        after = []
        for piece in pieces:
            end = 0
            for match in pattern.finditer(piece):
                if match.end() == match.start():
                    continue
                if match.start() > end:
                    after.append(piece[end:match.start()])
                after.append(match[0])
                end = match.end()
            if end < len(piece):
                after.append(piece[end:])
        pieces = after
    return pieces


# --- training -----------------------------------------------------------------------------------------

_ALLOWED = re.compile(rb"[_/]?[A-Za-z]+|[0-9]+|[ \n]+| ?(?:</|<|[!-.:;=?@\[-^`{-~/]+>?|>)\n*|_+|[\x80-\xff]+", re.DOTALL)


@functools.lru_cache(None)
def allowed(token: bytes) -> bool:
    return _ALLOWED.fullmatch(token) is not None


def learn(counts: dict[bytes, int], merges_wanted: int) -> list[tuple[bytes, bytes]]:
    """The merges of highest count, ties by bytes."""
    words = [[[bytes([b]) for b in piece], n] for piece, n in sorted(counts.items())]
    pairs, where = collections.Counter(), collections.defaultdict(set)
    for i, (tokens, n) in enumerate(words):
        for pair in zip(tokens, tokens[1:]):
            pairs[pair] += n
            where[pair].add(i)
    heap = [(-n, pair) for pair, n in pairs.items() if allowed(b"".join(pair))]
    heapq.heapify(heap)
    merges = []
    while heap and len(merges) < merges_wanted:
        count, pair = heapq.heappop(heap)
        if -count != pairs[pair]:
            if pairs[pair] > 0:
                heapq.heappush(heap, (-pairs[pair], pair))
            continue
        merges.append(pair)
        changed = set()
        for i in where.pop(pair):
            tokens, n = words[i]
            merged = apply_merge(tokens, pair)
            for old in zip(tokens, tokens[1:]):
                pairs[old] -= n
            for new in zip(merged, merged[1:]):
                pairs[new] += n
                where[new].add(i)
                changed.add(new)
            words[i][0] = merged
        for new in sorted(changed):
            if new != pair and allowed(b"".join(new)):
                heapq.heappush(heap, (-pairs[new], new))
    return merges


def apply_merge(tokens: list[bytes], pair: tuple[bytes, bytes]) -> list[bytes]:
    out, i = [], 0
    while i < len(tokens):
        if i + 1 < len(tokens) and (tokens[i], tokens[i + 1]) == pair:
            out.append(tokens[i] + tokens[i + 1])
            i += 2
        else:
            out.append(tokens[i])
            i += 1
    return out


def corpus() -> collections.Counter:
    """Piece -> count."""
    counts = collections.Counter()

    def add(text: str, weight: int = 1):
        for piece in split(text):
            data = piece.encode()
            if len(data) <= 40:
                counts[data] += weight

    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in listed.splitlines():
        if name.endswith((".h", ".cc", ".md", ".py", ".txt")) and not name.startswith("tests/golden"):
            add((ROOT / name).read_text(errors="ignore"), 2)
    prompt = (HERE / "prompt.txt").read_text() if (HERE / "prompt.txt").exists() else ""
    add(prompt.replace("｜DSML｜", "\n"), 1000)
    for path in some(Path("/usr/include").rglob("*.h"), 1500):
        add(path.read_text(errors="ignore")[:20000])
    for path in some(Path("/usr/share/doc").rglob("README*"), 200):
        data = path.read_bytes()
        text = gzip.decompress(data) if path.suffix == ".gz" else data
        add(text.decode(errors="ignore")[:20000])
    return collections.Counter({piece: n for piece, n in counts.items() if n >= 3})


def some(paths, limit: int) -> list[Path]:
    files = sorted(p for p in paths if p.is_file())
    random.Random(1).shuffle(files)
    return files[:limit]


def train():
    merges_wanted = VOCAB_SIZE - 256 - len(FIRST_CONTROL) - len(LAST_CONTROL)
    late = [(b" ", w.encode()) for w in FUNCTION_WORDS] + [(b".", e.encode()) for e in EXTENSIONS]
    late += [(b" ", b"You"), (b" ", b"I")]
    counts = corpus()
    merges = learn(counts, merges_wanted - len(late))
    known = {a + b for a, b in merges} | {bytes([b]) for b in range(256)}
    late = [pair for pair in late if pair[1] in known and pair[0] + pair[1] not in known]
    print(f"{len(counts)} pieces, {len(merges)} merges, {len(late)} late ones", file=sys.stderr)
    TOKENIZER.write_text(to_json(merges + late))


# --- tokenizer.json -----------------------------------------------------------------------------------

def byte_characters() -> list[str]:
    """The GPT-2 table: byte -> printable character."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table, spare = {}, 256
    for b in range(256):
        table[b] = chr(b) if b in plain else chr(spare)
        spare += b not in plain
    return [table[b] for b in range(256)]


def to_json(merges) -> str:
    letters = byte_characters()

    def spell(token: bytes) -> str:
        return "".join(letters[b] for b in token)
    ordinary = [bytes([b]) for b in range(256)] + [a + b for a, b in merges]
    first = len(FIRST_CONTROL)
    vocab = {**{c: i for i, c in enumerate(FIRST_CONTROL)}, **{spell(t): first + i for i, t in enumerate(ordinary)}}
    last = VOCAB_SIZE - len(LAST_CONTROL)
    controls = [*enumerate(FIRST_CONTROL), *enumerate(LAST_CONTROL, last)]
    added = [{"id": i, "content": c, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
              "special": i < first} for i, c in controls]
    steps = [{"type": "Split", "pattern": {"Regex": p}, "behavior": "Isolated", "invert": False} for p in PATTERNS]
    steps.append({"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False})
    return json.dumps({
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps}, "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "vocab": vocab,
                  "merges": [f"{spell(a)} {spell(b)}" for a, b in merges]}}, ensure_ascii=False, indent=0) + "\n"


class Tokenizer:
    """Encodes and decodes with a tokenizer.json; slow, for checks and statistics."""

    def __init__(self, path: Path = TOKENIZER):
        data = json.loads(path.read_text())
        letters = {c: bytes([b]) for b, c in enumerate(byte_characters())}
        self.added = {t["content"]: t["id"] for t in data["added_tokens"]}
        self.ids = {b"".join(letters[c] for c in token): i for token, i in data["model"]["vocab"].items()
                    if token not in self.added}
        self.bytes = {**{i: t for t, i in self.ids.items()}, **{i: c.encode() for c, i in self.added.items()}}
        pairs = (merge.split(" ") for merge in data["model"]["merges"])
        self.ranks = {tuple(b"".join(letters[c] for c in side) for side in pair): r for r, pair in enumerate(pairs)}
        self.matcher = re.compile("|".join(re.escape(c) for c in sorted(self.added, key=len, reverse=True)))
        self.piece_ids = functools.lru_cache(1 << 16)(self._piece_ids)

    def _piece_ids(self, piece: str) -> tuple[int, ...]:
        tokens = [bytes([b]) for b in piece.encode()]
        while len(tokens) > 1:
            rank, pair = min((self.ranks.get(p, 1 << 30), p) for p in zip(tokens, tokens[1:]))
            if rank == 1 << 30:
                break
            tokens = apply_merge(tokens, pair)
        return tuple(self.ids[t] for t in tokens)

    def encode(self, text: str, plain: bool = False) -> list[int]:
        out, end = [], 0
        for match in [] if plain else self.matcher.finditer(text):
            out += self._ordinary(text[end:match.start()]) + [self.added[match[0]]]
            end = match.end()
        return out + self._ordinary(text[end:])

    def _ordinary(self, text: str) -> list[int]:
        return [i for piece in split(text) for i in self.piece_ids(piece)]

    def decode(self, ids) -> str:
        return b"".join(self.bytes[i] for i in ids).decode(errors="replace")


# --- the check ----------------------------------------------------------------------------------------

def check_lines(seed: int) -> list[str]:
    """1,000 lines: of headers, of documents, and random Unicode with control tokens in it."""
    rng, lines = random.Random(seed), []
    for path in some(Path("/usr/include").rglob("*.h*"), 3000)[1500:1700] + some(ROOT.rglob("*.md"), 40):
        lines += [line for line in path.read_text(errors="ignore").splitlines() if line.strip()]
    lines = rng.sample(lines, 700)
    alphabet = "abcXYZ_019 \t\n-->()<</｜毕老师éßЖदि\u00a0\u2003\u1680\x1c\x85ﬁ１²Ⅷ🙂\u0301'\"$#"
    for _ in range(300):
        text = "".join(rng.choice(alphabet) for _ in range(rng.randint(1, 60)))
        lines.append(text if rng.random() < 0.8 else text + rng.choice(LAST_CONTROL) + text)
    return lines


def check(holdfast: str, seed: int) -> int:
    tokenizer, lines = Tokenizer(), check_lines(seed)
    feed = "".join(json.dumps({"text": line}) + "\n" for line in lines)
    result = subprocess.run([holdfast, "model", "tokenize", "--tokenizer", str(TOKENIZER)], input=feed, text=True,
                            check=True, capture_output=True)
    theirs = [json.loads(line)["ids"] for line in result.stdout.splitlines()]
    wrong = [line for line, ids in zip(lines, theirs) if tokenizer.encode(line) != ids or tokenizer.decode(ids) != line]
    print(f"{len(lines)} lines, {sum(map(len, theirs))} tokens, {len(wrong)} differ", *map(repr, wrong[:5]), sep="\n")
    return 1 if wrong or len(theirs) != len(lines) else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["train", "check"])
    parser.add_argument("--holdfast", default="build/dev/cli/holdfast")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.command == "train":
        train()
        return 0
    return check(args.holdfast, args.seed)


if __name__ == "__main__":
    sys.exit(main())
