"""Kills `holdfast model generate --kv-store` with SIGKILL at named points, and lets it go on.

After each kill the next run must print what a run without a store prints, take up what was stored, and leave a store
without damage. Usage: generate_kill_test.py HOLDFAST WORK_DIRECTORY
"""
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys

PROMPT_TOKENS = 4_500
NEW_TOKENS = 200
# The point, and at which of its hits to die. A block is written at each 128 tokens, so the later hits lie in the
# middle of the prompt and of what is generated.
KILLS = [
    ("base.file.before_rename", 1),
    ("memory.segment.created", 1),
    ("memory.segment.created", 3),
    ("memory.segment.planes_written", 1),
    ("memory.segment.planes_written", 20),
    ("memory.segment.planes_written", 34),
    ("memory.segment.planes_written", 37),
    ("memory.segment.before_sync", 1),
    ("memory.segment.before_sync", 3),
    ("memory.store.segments_synced", 1),
]


class Runner:
    def __init__(self, holdfast: str, work: pathlib.Path):
        self.holdfast, self.model = holdfast, work / "model"
        self.run(["model", "synth", "--shape", "nano", "--layers", "3", "--experts", "4", "--vocab", "300", "--seed", "1",
                  str(self.model)])
        chooser = random.Random(1)
        self.prompt = ",".join(str(chooser.randrange(300)) for _ in range(PROMPT_TOKENS))

    def run(self, arguments: list, fault: str = "") -> subprocess.CompletedProcess:
        environment = {k: v for k, v in os.environ.items() if k != "HOLDFAST_FAULT_POINT"}
        if fault:
            environment["HOLDFAST_FAULT_POINT"] = fault
        done = subprocess.run([self.holdfast, *arguments], env=environment, capture_output=True, text=True, timeout=300)
        if not fault and done.returncode != 0:
            raise SystemExit(f"{arguments[:3]} failed: {done.stderr}")
        return done

    def generate(self, store: pathlib.Path | None, fault: str = "") -> subprocess.CompletedProcess:
        more = ["--kv-store", str(store)] if store else []
        return self.run(["model", "generate", str(self.model), "--prompt-ids", self.prompt, "--max-tokens",
                         str(NEW_TOKENS), "--temperature", "0", "--threads", "1", *more], fault)


def attached(stderr: str) -> int:
    found = re.search(r"\(([\d,]+) of them from the kv store\)", stderr)
    return int(found.group(1).replace(",", "")) if found else 0


def main() -> None:
    holdfast, work = sys.argv[1], pathlib.Path(sys.argv[2])
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    runner = Runner(holdfast, work)
    wanted = runner.generate(None).stdout
    assert len(wanted.split()) > 50, wanted

    # One store lives through all kills; each starts from a store of its own as well.
    shared = work / "shared"
    for point, hit in KILLS:
        own = work / f"own-{point}-{hit}"
        killed = runner.generate(own, f"{point}:{hit}")
        assert killed.returncode == -signal.SIGKILL, f"{point}:{hit} was not reached: {killed.stderr}"
        assert wanted.startswith(killed.stdout), f"{point}:{hit}: other tokens before the kill"
        runner.generate(shared, f"{point}:{hit}")  # reaches its point, or not: what was stored needs no writing
        for store in (shared, own):
            again = runner.generate(store)
            assert again.stdout == wanted, f"{point}:{hit}: other tokens after the kill, {store.name}"
            assert "kv store:" not in again.stderr, f"{point}:{hit}: {again.stderr}"
            report = json.loads(runner.run(["kv", "verify", "--store", str(store), "--json"]).stdout)
            assert report["damaged"] == 0 and report["slots"] > 0, report
        final = runner.generate(own)
        assert final.stdout == wanted
        assert attached(final.stderr) >= PROMPT_TOKENS - 128, final.stderr
        print(f"{point}:{hit}: went on from token {attached(again.stderr)}, then from {attached(final.stderr)}")
        shutil.rmtree(own)


if __name__ == "__main__":
    main()
