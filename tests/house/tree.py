#!/usr/bin/env python3
"""The files of the repository, a C++ scanner, and the harness that the house tests share.

    python3 tests/house/tree.py [--null] .h .cc     prints the files with these suffixes
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Callable, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
CXX_SUFFIXES = (".h", ".cc", ".cu", ".cuh")

# Walked only where git cannot list the files (a source archive, a planted tree).
SKIPPED_FOLDERS = {".git", ".cache", "build", "__pycache__"}


class Finding(NamedTuple):
    path: str
    line: int  # 1-based; 0 means the file as a whole
    rule: str
    message: str = ""

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: [{self.rule}] {self.message}"


def list_files(root: Path) -> list[str]:
    """Paths relative to root of every file that is tracked, or would be when added. Sorted."""
    if (root / ".git").exists():
        git = subprocess.run(
            ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
        if git.returncode == 0:
            names = sorted(set(git.stdout.decode().split("\0")) - {""})
            return [n for n in names if (root / n).is_file()]
    found = []
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [s for s in subfolders if s not in SKIPPED_FOLDERS]
        found += [(Path(folder) / n).relative_to(root).as_posix() for n in names]
    return sorted(found)


def read_text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


_CXX_TOKEN = re.compile(
    r"""(?P<comment>//(?:\\\n|[^\n])*|/\*.*?\*/)
      | (?P<raw>(?:u8|[uUL])?R"(?P<delim>[^()\\\s]{0,16})\(.*?\)(?P=delim)")
      | (?P<string>(?:u8|[uUL])?"(?:\\.|[^"\\\n])*")
      | (?P<number>\d(?:'?[\w.])*)
      | (?P<char>'(?:\\.|[^'\\\n])+')
      | (?P<word>[A-Za-z_]\w*)
    """,
    re.VERBOSE | re.DOTALL)


def _blank(text: str) -> str:
    return re.sub(r"[^\n]", " ", text)


def split_cxx(text: str) -> tuple[list[str], list[str]]:
    """(code, comments): the lines of text with comments and literals blanked, and the comments alone.

    Both have the line count of the text. #include lines keep their path in `code`.
    """
    code, comments, last = [], [], 0

    def emit(to_code: str, to_comments: str) -> None:
        code.append(to_code)
        comments.append(to_comments)

    for match in _CXX_TOKEN.finditer(text):
        between = text[last:match.start()]
        emit(between, _blank(between))
        token = match.group()
        if match.lastgroup == "comment":
            emit(_blank(token), token)
        elif match.lastgroup in ("number", "word"):
            emit(token, _blank(token))
        elif match.lastgroup == "string" and _is_include(text, match.start()):
            emit(token, _blank(token))
        else:
            emit(token[0] + _blank(token[1:-1]) + token[-1], _blank(token))
        last = match.end()
    emit(text[last:], _blank(text[last:]))
    return "".join(code).split("\n"), "".join(comments).split("\n")


def _is_include(text: str, position: int) -> bool:
    line_start = text.rfind("\n", 0, position) + 1
    return re.fullmatch(r"\s*#\s*include\s*", text[line_start:position]) is not None


def write_planted(planted: Path, root: Path) -> set[tuple[str, int, str]]:
    """Writes the tree described by a planted file under root; returns the findings it must cause.

    `=== path` opens a file. `@@rule` at the end of a line (spaces before the first are part of the line)
    is an expected finding there; after a path, a finding of the whole file. `@@lines=N` after a path
    pads the file with comment lines up to N lines. `<TAB>` stands for a tab.
    """
    expected: set[tuple[str, int, str]] = set()
    files: dict[str, list[str]] = {}
    pads: dict[str, int] = {}
    path = ""
    for raw in read_text(planted).splitlines():
        line, *marks = raw.replace("<TAB>", "\t").split("@@")
        marks = [m.strip() for m in marks]
        if raw.startswith("=== "):
            path = line[4:].strip()
            files[path] = []
            for mark in marks:
                if mark.startswith("lines="):
                    pads[path] = int(mark[6:])
                else:
                    expected.add((path, 0, mark))
        elif path:
            files[path].append(line)
            expected |= {(path, len(files[path]), m) for m in marks}
    for name, lines in files.items():
        lines += ["// filler"] * (pads.get(name, 0) - len(lines))
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return expected


def self_test(check: Callable[[Path], list[Finding]], planted: Path) -> int:
    """Runs the checker on a planted tree: it must find every planted violation and nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        expected = write_planted(planted, Path(folder))
        found = {(f.path, f.line, f.rule): f for f in check(Path(folder))}
    missed = sorted(expected - set(found))
    extra = sorted(set(found) - expected)
    for path, line, rule in missed:
        print(f"self-test: planted violation not found: {path}:{line}: [{rule}]")
    for key in extra:
        print(f"self-test: found what was not planted: {found[key]}")
    print(f"self-test: {len(expected)} planted violations, {len(missed)} missed, {len(extra)} false")
    return 1 if missed or extra or not expected else 0


def main_of(name: str, check: Callable[[Path], list[Finding]], help_text: str) -> int:
    """The command line of a house test: no argument checks the repository, --self-test the checker."""
    arguments = sys.argv[1:]
    if arguments == ["--self-test"]:
        return self_test(check, Path(__file__).parent / "planted" / f"{name}.txt")
    if arguments:
        print(help_text)
        return 0 if arguments in (["--help"], ["-h"]) else 2
    findings = check(ROOT)
    for finding in sorted(findings):
        print(finding)
    print(f"{name}: {len(findings)} findings")
    return 1 if findings else 0


def main() -> int:
    arguments = sys.argv[1:]
    end = "\0" if "--null" in arguments else "\n"
    suffixes = tuple(a for a in arguments if a != "--null")
    for name in list_files(ROOT):
        if name.endswith(suffixes):
            sys.stdout.write(name + end)
    return 0


if __name__ == "__main__":
    sys.exit(main())
