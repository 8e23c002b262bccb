#!/usr/bin/env python3
"""The tools of nano, byte for byte: `holdfast tools run --profile nano` against model/nano/standin.py.

Random trees with odd names, long lines, tabs, CR, bytes that are no UTF-8, binary and ignored files; random calls;
after each the text must be the same, and after each that changes something the hash of the tree. What the stand-in
does not cover is decided here by others: git says what is ignored, bash itself what a command prints.

    nano_tools_test.py HOLDFAST [WORK_DIRECTORY] [--seed N] [--trees N] [--calls N]
"""

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from model.nano import standin  # noqa: E402

WORDS = ["alpha", "beta", "beta2", "_gamma", "delta_one", "x", "Größe", "漢字", "naïve", "foo", "foobar", "A1", "42"]
JOINTS = [" ", "  ", "\t", ", ", "(", ")", ".", "->", "=", "\r", "\f", "→", "-", ":", "\"", "'", "\\", "$", "%", "{", "}"]
NAMES = ["a", "b.txt", "main.cc", "with space", "-dash", "ünï", "日本", "new\nline", "tab\tname", "quote\"s", ".hidden", "a.b.c",
         "back\\slash", "[x]", "*star*", "#hash#", "!bang", "COLON:1", "~t", "%41", "a'b"]
IGNORES = ["*.o", "build/", "/top", "dir/*.log", "!keep.o", "**/deep/x", "# comment", "", "a?c", "[xy].tmp", "\\#hash#",
           "trailing ", "dir/sub", "*.tmp\r"]
PATTERNS = ["alpha", "beta", "beta|foo", "fo+", "foo.*x", "[a-z]+_one", r"\d+", "^alpha", "x$", "Gr.*e", "漢字", r"A1\b", "(",
            "[a", "nothing_at_all", "f(oo|ar)", r"\(", r"x{1,3}", "*a", "bet[^a]", r"foo\.", "beta2?", "_gamma", r"\$"]


class Covered(standin.StandIn):
    """The stand-in on a real tree: bytes, of which some are not its own to search, read or edit."""

    def __init__(self, files, searched):
        super().__init__({p: b.decode(errors="surrogateescape") for p, b in files.items()})
        self.raw, self.searched = dict(files), searched

    def is_text(self, path):
        data = self.raw.get(path, b"")
        return len(data) <= 4194304 and b"\0" not in data[:8192]

    def _grep(self, result, limits, pattern):
        everything = self.files
        self.files = {p: self.raw[p].decode(errors="replace") for p in everything if p in self.searched and self.is_text(p)}
        try:
            return super()._grep(result, limits, pattern)
        finally:
            self.files = everything

    def _read(self, result, limits, path, line):
        everything = self.files
        self.files = {p: self.raw[p].decode(errors="replace") for p in everything if self.is_text(p)}
        try:
            return super()._read(result, limits, path, line)
        finally:
            self.files = everything

    def _edit(self, result, limits, path, old, new):
        if not old:  # the data files say nothing of an empty text; the stand-in would put `new` between all characters
            return result["no_match"] if path in self.files and self.is_text(path) else result["no_file"]
        if path in self.files and not self.is_text(path):
            return result["no_file"]
        text = super()._edit(result, limits, path, old, new)
        if path in self.files:
            self.raw[path] = self.files[path].encode(errors="surrogateescape")
        return text

    def tree_hash(self):
        import hashlib
        digest = hashlib.sha256()
        for path in sorted(self.raw, key=os.fsencode):
            for part in (os.fsencode(path), self.raw[path]):
                digest.update(len(part).to_bytes(8, "little") + part)
        return digest.hexdigest()


def random_line(rng):
    words = [rng.choice(WORDS) + rng.choice(JOINTS) for _ in range(rng.choice([0, 1, 2, 3, 5, 8, 60]))]
    return rng.choice(["", "  ", "\t", " \t "]) + "".join(words) + rng.choice(["", "", " ", "\r", "\t "])


def random_bytes(rng):
    lines = [random_line(rng) for _ in range(rng.choice([0, 1, 2, 5, 19, 20, 21, 40]))]
    data = "\n".join(lines).encode() + (b"\n" if rng.random() < 0.8 else b"")
    kind = rng.random()
    if kind < 0.08:
        return data + b"\0binary alpha beta\n"
    if kind < 0.12:
        return b"x" * 8192 + b"\0\nalpha far\n" + data  # its NUL comes late: still text
    if kind < 0.2:
        # Apart from words: beside a byte that is no UTF-8 ripgrep 13 sees no border of a word.
        return data + b"caf\xe9 alpha \xff\xfe foo \xe6\xbc\n"
    if kind < 0.22:
        return (b"alpha beta " * 40 + b"\n") * 10000  # over the bound
    return data


def random_tree(rng):
    files = {}
    for _ in range(rng.randint(1, 25)):
        parts = [rng.choice(["dir", "build", "deep", "sub", "src"]) for _ in range(rng.choice([0, 0, 1, 1, 2, 3]))]
        name = rng.choice(NAMES) + rng.choice(["", "", ".o", ".log", ".tmp"])
        path = "/".join(parts + [name])
        if any(path == p or p.startswith(path + "/") or path.startswith(p + "/") for p in files):
            continue
        files[path] = random_bytes(rng)
    for place in ["", "dir/", "src/"]:
        if rng.random() < 0.5 and (not place or any(p.startswith(place) for p in files)):
            lines = rng.sample(IGNORES, rng.randint(1, 6))
            files[place + ".gitignore"] = "\n".join(lines + [""]).encode()
    return files


def write_tree(root, files):
    for path, data in files.items():
        whole = Path(root) / path
        whole.parent.mkdir(parents=True, exist_ok=True)
        whole.write_bytes(data)


def not_ignored(root):
    """What git takes for a part of the repository."""
    git = ["git", "-c", "core.excludesFile=/dev/null", "-C", root]
    subprocess.run(git + ["init", "-q"], check=True)
    listed = subprocess.run(git + ["ls-files", "-z", "--others", "--exclude-standard"], check=True, capture_output=True)
    shutil.rmtree(Path(root) / ".git")
    return {os.fsdecode(p) for p in listed.stdout.split(b"\0") if p}


def random_command(rng, files):
    """A command, and what it appends to which file, if anything."""
    path = rng.choice(sorted(files))
    quoted = "'" + path.replace("'", "'\\''") + "'"
    simple = ["true", "false", "exit 7", "kill -9 $$", "seq 2000", "seq 100000 | head -c 2048", "seq 9999 | head -c 2049",
              "printf 'no newline'", "printf 'a\\377b\\303'", "echo out; echo err >&2; exit 3", "nosuchcommand 2>/dev/null",
              "yes Größe | head -c 5001", "printf '\\342\\202'; yes € | head -n 3000", f"cat < {quoted}", f"wc -c < {quoted}",
              f"test -f {quoted} && echo there", "head -c 100000 /dev/zero | tr '\\0' z",
              f"yes 'a€ß' | head -c {rng.randint(2040, 6000)}"]
    if rng.random() < 0.2:
        return f"printf 'alpha added\\n' >> {quoted}", (path, b"alpha added\n")
    return rng.choice(simple), None


def run_bash(command, root):
    done = subprocess.run(["bash", "-c", command], cwd=root, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    return done.stdout.decode(errors="replace"), done.returncode if done.returncode >= 0 else 128 - done.returncode


def random_call(rng, files):
    tool = rng.choice(["grep", "grep", "read", "read", "edit", "edit", "bash"])
    path = rng.choice(sorted(files)) if rng.random() < 0.9 else rng.choice(["nope", "dir", "", "../x", "/etc/passwd", "a/../b", "./a"])
    if tool == "grep":
        pattern = rng.choice(PATTERNS) if rng.random() < 0.6 else rng.choice(WORDS)
        return tool, {"pattern": pattern}
    if tool == "read":
        return tool, {"path": path, "line": rng.choice([-3, 0, 1, 2, 10, 19, 20, 21, 22, 41, 2**40])}
    if tool == "edit":
        old = rng.choice(WORDS) if rng.random() < 0.8 else rng.choice([" ", "\n", "x\n", "->", "beta, ", "no such", "foo(", ""])
        return tool, {"path": path, "old": old, "new": rng.choice(WORDS + ["", "two\nlines", "\\1", "$&"])}
    return tool, {}


class Tools:
    def __init__(self, program, tree):
        self.process = subprocess.Popen([program, "tools", "run", "--profile", "nano", "--tree", tree], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, line):
        self.process.stdin.write(json.dumps(line) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, "holdfast tools run has ended"
        return json.loads(answer)

    def close(self):
        self.process.stdin.close()
        assert self.process.wait(60) == 0


def check_tree(program, seed, calls):
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as root:
        os.chmod(root, 0o755)
        files = random_tree(rng)
        write_tree(root, files)
        tools, model = Tools(program, root), Covered(files, not_ignored(root))
        first_hash = model.tree_hash()
        for number in range(calls):
            tool, arguments = random_call(rng, model.raw)
            appended = None
            if tool == "bash":
                command, appended = random_command(rng, model.raw)
                arguments = {"command": command}
                with tempfile.TemporaryDirectory() as copy:
                    write_tree(copy, model.raw)
                    model.outputs = {command: run_bash(command, copy)}
            want = model.call(tool, arguments)
            if appended:
                path, data = appended
                model.raw[path] += data
                model.files[path] = model.raw[path].decode(errors="surrogateescape")
            got = tools.ask({"tool": tool, "arguments": arguments})
            where = f"seed {seed}, call {number}: {tool} {json.dumps(arguments)}"
            assert got.get("text") == want, f"{where}\nwant {want!r}\ngot  {got!r}"
            if tool in ("edit", "bash"):
                assert tools.ask({"op": "hash"}) == {"hash": model.tree_hash()}, where
        assert tools.ask({"op": "reset"}) == {"ok": True}
        assert tools.ask({"op": "hash"}) == {"hash": first_hash}, f"seed {seed}: the tree after a reset"
        assert tools.ask({"op": "diff"}) == {"changes": []}
        tools.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("work", nargs="?", help="not used")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--trees", type=int, default=12)
    parser.add_argument("--calls", type=int, default=40)
    options = parser.parse_args()
    for seed in range(options.seed, options.seed + options.trees):
        check_tree(options.program, seed, options.calls)
    print(f"{options.trees} trees from seed {options.seed}, {options.trees * options.calls} calls: the same bytes")


if __name__ == "__main__":
    main()
