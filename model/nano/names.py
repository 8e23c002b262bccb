"""Open-vocabulary names: identifiers, file names and values that training has never seen."""

import dataclasses
import json
import random
import re
from pathlib import Path

STYLES = ("snake", "upper", "camel", "lower", "mixed")


def words_of(texts) -> list[str]:
    """Distinct lower-case words (3 to 9 letters) out of the identifiers in some texts, sorted."""
    found = set()
    for text in texts:
        for word in re.findall(r"[A-Za-z][a-z]{2,8}", text):
            found.add(word.lower())
    return sorted(found)


@dataclasses.dataclass
class Words:
    real: list[str]
    pieces: list[str]


def pieces_of(tokenizer: Path) -> list[str]:
    """The letters of tokens that stand in names: a token that no word of training holds would never be learnt to copy."""
    vocab = json.loads(tokenizer.read_text())["model"]["vocab"]
    return sorted({t.lstrip("_") for t in vocab if re.fullmatch("_?[A-Za-z]{2,}", t)})


def word(rng: random.Random, words: Words) -> str:
    """A real word, letters that are none, or tokens in a row."""
    kind = rng.random()
    if kind < 0.4:
        return rng.choice(words.real)
    if kind < 0.65:
        return "".join(rng.choice(words.pieces) for _ in range(rng.randint(1, 2)))
    return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(2, 6)))


def identifier(rng: random.Random, words: Words, parts_max: int = 4) -> str:
    parts = [word(rng, words) for _ in range(rng.randint(1 if parts_max < 3 else 2, parts_max))]
    style = rng.choice(STYLES)
    if rng.random() < 0.15:
        parts.append(str(rng.randint(0, 99)))
    if style == "upper":
        return "_".join(parts).upper()
    if style == "camel":
        return "".join(p[0].upper() + p[1:] for p in parts)
    if style == "lower":
        return "".join(parts[:2])
    if style == "mixed":
        return parts[0].upper() + "_" + "".join(p.capitalize() for p in parts[1:]) if len(parts) > 1 else parts[0]
    return "_".join(parts)


def path(rng: random.Random, words: Words, depth_max: int = 2) -> str:
    folders = [word(rng, words) for _ in range(rng.randint(0, depth_max))]
    stem = "_".join(word(rng, words) for _ in range(rng.randint(1, 2)))
    return "/".join([*folders, stem + rng.choice([".h", ".c", ".cc", ".py", ".hpp"])])


def value(rng: random.Random) -> str:
    kind = rng.randrange(4)
    if kind == 0:
        return str(rng.randint(0, 99999))
    if kind == 1:
        return hex(rng.getrandbits(rng.choice([8, 16, 32])))
    if kind == 2:
        return f"(1 << {rng.randint(0, 31)})"
    return '"' + "".join(rng.choice("abcdefghijklmnopqrstuvwxyz0123456789.-") for _ in range(rng.randint(3, 10))) + '"'


def setting(rng: random.Random, words: Words) -> str:
    """A value as configuration files have them."""
    kind = rng.randrange(5)
    if kind == 0:
        return str(rng.randint(0, 9999))
    if kind == 1:
        return rng.choice(["true", "false", "on", "off", "yes", "no"])
    if kind == 2:
        return f"{rng.randint(0, 99)}.{rng.randint(0, 99)}"
    if kind == 3:
        return "_".join(word(rng, words) for _ in range(rng.randint(1, 2)))
    return path(rng, words, 2)
