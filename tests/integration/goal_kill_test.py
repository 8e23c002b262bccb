"""Kills the daemon with SIGKILL at random moments while it renames a name across a repository of some thousand files,
and starts another one, which goes on.

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
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
OLD, NEW = "quorvantel_limit", "brimsway_bound"
IDLE, PAUSED = 1, 4  # as a session's row has it
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
        self.holdfast, self.repository, self.data = holdfast, work / name / "repository", work / name / "data"
        shutil.copytree(repository, self.repository)
        self.daemon = None

    def command(self, name: str, *more: str) -> list:
        return [self.holdfast, name, *more, "--data", str(self.data)]

    def start(self) -> None:
        """Starts a daemon, and does not wait for it."""
        self.daemon = subprocess.Popen(
            self.command("serve", "--model", str(ROOT / "model/nano/checkpoint"), "--threads", "1"),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def wait_until_serving(self) -> None:
        output = []
        for line in self.daemon.stdout:
            output.append(line)
            if line.startswith("serving"):
                # Nobody reads on: what it says must not fill the pipe.
                threading.Thread(target=self.daemon.stdout.read, daemon=True).start()
                return
        raise AssertionError("the daemon did not start: " + "".join(output))

    def begin(self) -> None:
        done = subprocess.run(
            self.command("run", GOAL, "--repo", str(self.repository), "--check", CHECK, "--id", "goal", "--apply",
                         "--detach"), capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done

    def watch(self, *more: str) -> subprocess.Popen:
        return subprocess.Popen(self.command("watch", "goal", *more), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                text=True)

    def go_on(self, *more: str) -> None:
        done = subprocess.run(self.command("resume", "goal", *more), capture_output=True, text=True, timeout=600)
        if done.returncode == 3 and "RECOVERY_LOOP" in done.stdout:
            # The daemon paused it at this moment, for the kills before without a thing done: it is said once more.
            done = subprocess.run(self.command("resume", "goal", *more), capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done

    def kill(self) -> None:
        self.daemon.send_signal(signal.SIGKILL)
        self.daemon.wait()

    def stop(self) -> None:
        done = subprocess.run(self.command("stop"), capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done
        assert self.daemon.wait(timeout=300) == 0

    def events(self) -> int:
        if not (self.data / "holdfast.db").exists():
            return 0
        return len(rows(self.data, "SELECT seq FROM event"))

    def state(self) -> int:
        return rows(self.data, "SELECT state FROM session")[0][0]


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
    whole.start()
    whole.wait_until_serving()
    starting = time.monotonic() - begun
    whole.begin()
    whole.go_on()
    seconds = time.monotonic() - begun
    whole.stop()
    expected = Record(whole.data)
    assert all(n == 1 for n in expected.outcomes.values()), expected.outcomes
    for path, text in PLANTED.items():
        assert (whole.repository / path).read_text() == text.replace(OLD, NEW), path

    killed = Machine(arguments.holdfast, arguments.work, "killed", arguments.work / "original")
    chooser = random.Random(arguments.seed)
    kills = 0
    while kills < arguments.kills:
        known = killed.events()
        if known > 1 and killed.state() == IDLE:
            print(f"the goal was reached after {kills} kills")
            break
        paused = known > 1 and killed.state() == PAUSED
        killed.start()
        # Lives so short that the work is hardly over before the last kill: while it starts, or some moments after a
        # thing has happened.
        if known <= 1:
            killed.wait_until_serving()
            killed.begin()
        elif paused:  # RECOVERY_LOOP: it was killed too often without having done a thing
            killed.wait_until_serving()
            killed.go_on("--detach")
        elif kills % 3 == 2:
            killed.wait_until_serving()
            watch = killed.watch("--after", str(known))
            watch.stdout.readline()
            watch.kill()
            watch.communicate()
        else:
            time.sleep(starting * chooser.uniform(0.3, 1.5))
        time.sleep(chooser.uniform(0.0, 0.02))
        killed.kill()
        kills += 1
    killed.start()
    killed.wait_until_serving()
    killed.go_on()  # until the goal is at its end, which must be a good one
    killed.stop()
    record = Record(killed.data)
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
