"""Open-vocabulary names: identifiers, file names and values that training has never seen."""

import random
import re

STYLES = ("snake", "upper", "camel", "lower", "mixed")


def words_of(texts) -> list[str]:
    """Distinct lower-case words (3 to 9 letters) out of the identifiers in some texts, sorted."""
    found = set()
    for text in texts:
        for word in re.findall(r"[A-Za-z][a-z]{2,8}", text):
            found.add(word.lower())
    return sorted(found)


def word(rng: random.Random, vocabulary: list[str]) -> str:
    """A real word, or letters that are none."""
    if rng.random() < 0.6:
        return rng.choice(vocabulary)
    return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(2, 6)))


def identifier(rng: random.Random, vocabulary: list[str], parts_max: int = 4) -> str:
    parts = [word(rng, vocabulary) for _ in range(rng.randint(1 if parts_max < 3 else 2, parts_max))]
    style = rng.choice(STYLES)
    if rng.random() < 0.15:
        parts.append(str(rng.randint(0, 99)))
    if style == "upper":
        return "_".join(parts).upper()
    if style == "camel":
        return "".join(p.capitalize() for p in parts)
    if style == "lower":
        return "".join(parts[:2])
    if style == "mixed":
        return parts[0].upper() + "_" + "".join(p.capitalize() for p in parts[1:]) if len(parts) > 1 else parts[0]
    return "_".join(parts)


def path(rng: random.Random, vocabulary: list[str], depth_max: int = 2) -> str:
    folders = [word(rng, vocabulary) for _ in range(rng.randint(0, depth_max))]
    stem = "_".join(word(rng, vocabulary) for _ in range(rng.randint(1, 2)))
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
