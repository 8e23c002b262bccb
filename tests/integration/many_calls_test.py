#!/usr/bin/env python3
"""Thousands of tool calls in a row through `holdfast tools run` leave nothing behind and need no more memory.

Looked at from outside, in /proc, while the program waits for the next call: its children and theirs, zombies,
descriptors, mounts, control groups, files, resident memory; and afterwards that its temporary directory is gone.

    many_calls_test.py HOLDFAST [WORK_DIRECTORY] [--calls N]
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

LINES = [
    {"tool": "bash", "arguments": {"command": "echo hello; (setsid sleep 1000 &); nohup sleep 1000 >/dev/null 2>&1 & true"}},
    {"tool": "read", "arguments": {"path": "src/a.txt"}},
    {"tool": "grep", "arguments": {"pattern": "alpha", "output_mode": "content"}},
    {"tool": "bash", "arguments": {"command": "echo $RANDOM >> src/b.txt; seq 1 20000; exit 3"}},
    {"tool": "glob", "arguments": {"pattern": "**/*.txt"}},
    {"tool": "edit", "arguments": {"path": "src/a.txt", "old_string": "alpha", "new_string": "alpha"}},
    {"tool": "bash", "arguments": {"command": "sleep 1000", "run_in_background": True}},
    {"tool": "grep", "arguments": {"pattern": "("}},
    {"tool": "nonesuch", "arguments": {}},
    {"tool": "bash", "arguments": {"command": "sleep 10", "timeout": 20}},
]
PAGE = os.sysconf("SC_PAGE_SIZE")


def descendants(pid):
    found, children = [], {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            state, parent = stat.rsplit(")", 1)[1].split()[:2]
            children.setdefault(int(parent), []).append((int(entry.name), state))
    todo = [pid]
    while todo:
        for child, state in children.get(todo.pop(), []):
            found.append((child, state))
            todo.append(child)
    return found


def groups_of(pids):
    """The control groups that carry the name of one of these processes."""
    names = tuple(f"holdfast-{pid}" for pid in pids)
    return [d for _, directories, _ in os.walk("/sys/fs/cgroup") for d in directories if d.startswith(names)]


class Runner:
    def __init__(self, program, scratch, tree):
        self.scratch = scratch
        self.process = subprocess.Popen([program, "tools", "run", "--tree", tree], text=True, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, env={**os.environ, "TMPDIR": scratch})
        self.background = 0

    def ask(self, line):
        self.process.stdin.write(json.dumps(line) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def call(self, number):
        line = LINES[number % len(LINES)]
        answer = self.ask(line)
        assert "status" in answer, answer
        if line["arguments"].get("run_in_background"):
            self.background += 1
            name = f"b{self.background}"
            assert answer["text"] == f"{name} runs in the background\n", answer
            assert "killed" in self.ask({"tool": "bash_kill", "arguments": {"id": name}})["text"]
            return 2
        return 1

    def measure(self, wanted=None):
        """What there is once it is `wanted`, or after ten seconds: a job that has ended is taken apart a moment later."""
        deadline = time.monotonic() + 10
        while True:
            try:
                found = self.look()
            except FileNotFoundError:  # a process that ended meanwhile
                found = None
            if time.monotonic() > deadline or (found == wanted if wanted else found and not found["zombies"]):
                return found
            time.sleep(0.02)

    def look(self):
        pid = self.process.pid
        family = descendants(pid)
        return {
            "processes": len(family),
            "zombies": sum(state == "Z" for _, state in family),
            "descriptors": len(os.listdir(f"/proc/{pid}/fd")) + sum(len(os.listdir(f"/proc/{p}/fd")) for p, _ in family),
            "mounts": sum(len(Path(f"/proc/{p}/mounts").read_text().splitlines()) for p in [pid] + [p for p, _ in family]),
            "groups": len(groups_of([pid] + [p for p, _ in family])),
            "files": sum(len(files) for _, _, files in os.walk(self.scratch)),
        }

    def resident_kb(self):
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * PAGE // 1024


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("work", nargs="?", help="not used")
    parser.add_argument("--calls", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, tempfile.TemporaryDirectory() as tree:
        os.chmod(tree, 0o755)
        (Path(tree) / "src").mkdir()
        for name in ("a", "b", "c"):
            (Path(tree) / "src" / f"{name}.txt").write_text("alpha\nbeta\n")
        runner = Runner(options.program, scratch, tree)
        done, number = 0, 0
        warm = options.calls // 5
        began = time.monotonic()
        while done < warm:
            done += runner.call(number)
            number += 1
        number += -number % len(LINES)
        time.sleep(0.5)
        before, memory = runner.measure(), runner.resident_kb()
        while done < options.calls:
            done += runner.call(number)
            number += 1
        seconds = time.monotonic() - began
        after, memory_after = runner.measure(before), runner.resident_kb()
        slope = (memory_after - memory) * 1024 / max(options.calls - warm, 1)
        print(f"{done} calls in {seconds:.1f} s; {before} -> {after}; {memory} -> {memory_after} KiB, {slope:.0f} bytes a call")
        assert after == before, (before, after)
        # F7: less than 1 KB a call; over few calls the allocator's own steps are larger than that.
        assert memory_after - memory < max(4096, (options.calls - warm)), (memory, memory_after)
        family = [runner.process.pid] + [p for p, _ in descendants(runner.process.pid)]
        runner.process.stdin.close()
        assert runner.process.wait(60) == 0
        assert os.listdir(scratch) == [], os.listdir(scratch)
        assert groups_of(family) == [], groups_of(family)
        assert not any(Path(f"/proc/{p}").exists() for p in family), family


if __name__ == "__main__":
    main()
