"""Kills `holdfast run` with SIGKILL at random moments while it renames a name across a repository of some thousand
files, and lets `holdfast resume` go on.

What comes of it must be what comes of a run that nobody kills: the same tokens in the same window, the same tree, one
outcome for each call. The record is read here without the program's help, by docs/formats/session_log.md.
Usage: goal_kill_test.py HOLDFAST WORK_DIRECTORY [--kills N]
"""
import argparse
import contextlib
import hashlib
import pathlib
import random
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
OLD, NEW = "quorvantel_limit", "brimsway_bound"
FILES = 3000  # of other things in the repository
PLANTED = {
    "planted/limits.h": f"#pragma once\n\n// The most that is taken at once.\nint {OLD}();\n",
    "planted/limits.cc": f'#include "planted/limits.h"\n\nint {OLD}() {{ return 12; }}\n',
    "planted/other.cc": f'#include "planted/limits.h"\n\nint twice() {{ return 2 * {OLD}(); }}\n',
    "planted/user.cc": f'#include "planted/limits.h"\n\nint main() {{ return {OLD}() - 12; }}\n',
}
GOAL = f"Rename `{OLD}` to `{NEW}`."
CHECK = f"! grep -rqw {OLD} . && grep -qw {NEW} planted/user.cc"


def make_repository(to: pathlib.Path) -> None:
    """The project's own sources, again and again in folders of their own, and the planted files."""
    sources = sorted(p for d in ("base", "model", "memory", "sessions", "tools", "workspace", "docs")
                     for p in (ROOT / d).rglob("*") if p.is_file() and p.suffix in (".h", ".cc", ".md", ".json"))
    for i in range(FILES):
        source = sources[i % len(sources)]
        copy = to / f"part{i // len(sources)}" / source.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copy)
    for path, text in PLANTED.items():
        (to / path).parent.mkdir(parents=True, exist_ok=True)
        (to / path).write_text(text)


def tree_hash(tree: pathlib.Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(p for p in tree.rglob("*") if p.is_file()):
        digest.update(str(path.relative_to(tree)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


class Reader:
    def __init__(self, data: bytes):
        self.data, self.at = data, 0

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def text(self) -> bytes:
        size = self.varint()
        self.at += size
        return self.data[self.at - size:self.at]


def rows(data: pathlib.Path, query: str) -> list:
    """Of a copy: a reader beside files that a process has for itself would leave its traces there."""
    with tempfile.TemporaryDirectory() as copy:
        for name in ("holdfast.db", "holdfast.db-wal"):
            if (data / name).exists():
                shutil.copyfile(data / name, pathlib.Path(copy) / name)
        with contextlib.closing(sqlite3.connect(f"{copy}/holdfast.db")) as database:
            try:
                return database.execute(query).fetchall()
            except sqlite3.OperationalError:  # no tables yet
                return []


class Record:
    """The window of a session and its calls, from the database."""

    def __init__(self, data: pathlib.Path):
        self.window, self.outcomes, self.unknown, self.attached, self.prefilled, self.recovered = [], {}, 0, 0, 0, 0
        for kind, body in rows(data, "SELECT kind, body FROM event ORDER BY seq"):
            reader = Reader(body)
            if kind == 2:  # TOKEN_RUN
                position, _origin = reader.varint(), reader.byte()
                assert position == len(self.window), (position, len(self.window))
                self.window += [reader.varint() for _ in range(reader.varint())]
            elif kind == 3:  # TOKENS_CUT
                del self.window[reader.varint():]
            elif kind == 4:
                self.window = []
            elif kind == 8:  # CALL_INTENT
                self.outcomes[reader.text()] = 0
            elif kind == 9:  # CALL_OUTCOME
                self.outcomes[reader.text()] += 1
                self.unknown += reader.byte() == 6
            elif kind == 15:
                self.recovered += 1
            elif kind == 16:
                self.attached += reader.varint()
                self.prefilled += reader.varint()


class Machine:
    def __init__(self, holdfast: str, work: pathlib.Path, name: str, repository: pathlib.Path):
        self.repository, self.data = work / name / "repository", work / name / "data"
        shutil.copytree(repository, self.repository)
        common = ["--data", str(self.data), "--model", str(ROOT / "model/nano/checkpoint"), "--threads", "1"]
        self.begin = [holdfast, "run", GOAL, "--repo", str(self.repository), "--check", CHECK, "--profile", "nano", "--id",
                      "goal", "--apply", *common]
        self.go_on = [holdfast, "resume", "goal", *common]

    def start(self, arguments: list) -> subprocess.Popen:
        return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def step(self) -> subprocess.Popen:
        """Begins the goal, or goes on with it."""
        if not (self.data / "holdfast.db").exists():
            return self.start(self.begin)
        begun = len(rows(self.data, "SELECT seq FROM event")) > 1
        return self.start(self.go_on if begun else self.begin)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("holdfast")
    parser.add_argument("work", type=pathlib.Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    shutil.rmtree(arguments.work, ignore_errors=True)
    arguments.work.mkdir(parents=True)
    make_repository(arguments.work / "original")

    whole = Machine(arguments.holdfast, arguments.work, "whole", arguments.work / "original")
    begun = time.monotonic()
    process = whole.step()
    process.stdout.readline()
    starting = time.monotonic() - begun  # until something is on record
    output = process.communicate(timeout=600)[0]
    seconds = time.monotonic() - begun
    assert process.returncode == 0, output
    expected = Record(whole.data)
    assert all(n == 1 for n in expected.outcomes.values()), expected.outcomes
    for path, text in PLANTED.items():
        assert (whole.repository / path).read_text() == text.replace(OLD, NEW), path

    killed = Machine(arguments.holdfast, arguments.work, "killed", arguments.work / "original")
    chooser = random.Random(arguments.seed)
    kills = 0
    while kills < arguments.kills:
        process = killed.step()
        # Lives so short that the work is hardly over before the last kill: while it starts, or some moments after it
        # has said a thing.
        if kills % 3 == 2:
            process.stdout.readline()
        else:
            time.sleep(starting * chooser.uniform(0.3, 1.0))
        time.sleep(chooser.uniform(0.0, 0.02))
        if process.poll() is not None:
            print(f"the goal was reached after {kills} kills")
            break
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += 1
    process = killed.step()
    output = process.communicate(timeout=600)[0]
    record = Record(killed.data)
    assert process.returncode == 0, output
    assert record.window == expected.window, "other tokens"
    assert record.outcomes == expected.outcomes, (record.outcomes, expected.outcomes)
    assert record.unknown == 0
    assert tree_hash(killed.repository) == tree_hash(whole.repository), "another tree"
    files = sum(1 for p in killed.repository.rglob("*") if p.is_file())
    print(f"{kills} kills, {record.recovered} recoveries, {files} files, {len(record.window)} tokens, {len(record.outcomes)} "
          f"calls: the same as without ({seconds:.1f} s); prefilled {record.prefilled} tokens, {expected.prefilled} "
          f"without; attached {record.attached}")
    shutil.rmtree(arguments.work)


if __name__ == "__main__":
    main()
