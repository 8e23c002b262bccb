"""A stand-in for the tool dispatcher, until the real one can be run in batch.

It keeps a tree of files in memory and answers calls by the data files in tools/data/, byte for byte as their README
says. Not covered: ignore files, binary and very large files, regular expressions beyond what Python's re shares with
ripgrep, real commands (bash answers from a table that the caller gives).
"""

import dataclasses
import hashlib
import json
import re
from pathlib import Path

BLANKS = " \r\f\v"
DATA = Path(__file__).resolve().parents[2] / "tools" / "data"


def fill(template: str, **values) -> str:
    """Replaces each {x} once, never inside what was put in."""
    return re.sub(r"\{(\w+)\}", lambda m: str(values[m[1]]), template)


OUTCOMES = json.loads((DATA / "outcomes.json").read_text())


def load_profile(name: str = "nano") -> dict:
    return json.loads((DATA / f"{name}.json").read_text())


def load_tool(versioned: str) -> dict:
    return json.loads((DATA / f"{versioned}.json").read_text())


def cut_text(line: str, limit: int, keep_indent: bool = False) -> str:
    line = line.replace("\t", " ").rstrip(BLANKS)
    data = (line if keep_indent else line.lstrip(BLANKS)).encode()
    return data[:limit].decode(errors="ignore")


def whole_word(old: str) -> re.Pattern:
    """Literal `old`; a byte beside a word character at its ends must not be one."""
    before = r"(?<![A-Za-z0-9_])" if re.match(r"[A-Za-z0-9_]", old) else ""
    after = r"(?![A-Za-z0-9_])" if re.search(r"[A-Za-z0-9_]\Z", old) else ""
    return re.compile(before + re.escape(old) + after)


@dataclasses.dataclass
class Event:
    """Trouble at one call: before it, `files` are set by somebody else (None: the file is gone); with `unknown` its
    outcome is not known, and it `happens` or not."""
    files: dict = dataclasses.field(default_factory=dict)
    unknown: bool = False
    happens: bool = True


class StandIn:
    """files: path -> text. outputs: command -> (output, exit code). events: number of the call, from 0 -> Event."""

    def __init__(self, files: dict[str, str], outputs: dict | None = None, events: dict | None = None):
        self.files, self.outputs, self.events, self.calls = dict(files), outputs or {}, events or {}, 0
        self.tools = {load_tool(t)["function"]["name"]: load_tool(t) for t in load_profile()["tools"]}

    def call(self, name: str, arguments: dict) -> str:
        event = self.events.get(self.calls, Event())
        self.calls += 1
        for path, text in event.files.items():
            self.files[path] = text
            if text is None:
                del self.files[path]
        tool = self.tools[name]
        if event.unknown and not event.happens:
            return OUTCOMES["unknown"]
        result = getattr(self, "_" + name)(tool["result"], tool["limits"], **arguments)
        return OUTCOMES["unknown"] if event.unknown else result

    def tree_hash(self) -> str:
        """SHA-256 over paths and contents, in the order of paths."""
        digest = hashlib.sha256()
        for path in sorted(self.files, key=str.encode):
            for part in (path, self.files[path]):
                digest.update(len(part.encode()).to_bytes(8, "little") + part.encode())
        return digest.hexdigest()

    def _grep(self, result, limits, pattern: str) -> str:
        try:
            matcher = re.compile(rf"(?<!\w)(?:{pattern})(?!\w)")
        except re.error:
            return result["bad_pattern"]
        plain = pattern if re.fullmatch(r"\w+", pattern) else ""
        out, shown, left = "", 0, 0
        for path in sorted(self.files, key=str.encode):
            if plain not in self.files[path]:
                continue
            hits = [(i, line) for i, line in enumerate(self.files[path].split("\n"), 1)
                    if plain in line and matcher.search(line)]
            if not hits:
                continue
            if shown == limits["files_max"]:
                left += 1
                continue
            shown += 1
            out += fill(result["file"], path=path)
            for number, line in hits[:limits["hits_per_file_max"]]:
                out += fill(result["hit"], line=number, text=cut_text(line, limits["text_bytes_max"]))
            if len(hits) > limits["hits_per_file_max"]:
                out += fill(result["more_hits"], count=len(hits) - limits["hits_per_file_max"])
        if left:
            out += fill(result["more_files"], count=left)
        return out or result["none"]

    def _read(self, result, limits, path: str, line: int) -> str:
        if path not in self.files:
            return result["no_file"]
        lines = self.files[path].split("\n")
        if lines and not lines[-1]:
            lines.pop()
        first = max(line, 1)
        out = "".join(fill(result["line"], line=i, text=cut_text(lines[i - 1], limits["text_bytes_max"], True))
                      for i in range(first, min(first + limits["lines_max"], len(lines) + 1)))
        return out + (result["end"] if first + limits["lines_max"] > len(lines) else "")

    def _edit(self, result, limits, path: str, old: str, new: str) -> str:
        if path not in self.files:
            return result["no_file"]
        text, count = whole_word(old).subn(lambda _: new, self.files[path]) if old else ("", 0)
        if not count:
            return result["no_match"]
        self.files[path] = text
        return fill(result["done"], count=count)

    def _bash(self, result, limits, command: str) -> str:
        output, code = self.outputs.get(command, ("bash: command not found\n", 127))
        data = output.encode()
        room = limits["output_bytes_max"]
        if len(data) > room:
            cut = fill(result["cut"], count=len(data) - room)
            output = data[:room // 2].decode(errors="ignore") + cut + data[-(room // 2):].decode(errors="ignore")
        if output and not output.endswith("\n"):
            output += "\n"
        return fill(result["output"], output=output) + fill(result["exit"], code=code)
