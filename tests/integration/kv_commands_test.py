"""`holdfast kv` on a store that `holdfast model generate` has made: looking, checking, clearing, and its errors.

Usage: kv_commands_test.py HOLDFAST WORK_DIRECTORY
"""
import fcntl
import json
import pathlib
import shutil
import subprocess
import sys


def main() -> None:
    holdfast, work = sys.argv[1], pathlib.Path(sys.argv[2])
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    store = work / "kv"

    def run(*arguments, status=0):
        done = subprocess.run([holdfast, *map(str, arguments)], capture_output=True, text=True, timeout=120)
        assert done.returncode == status, (arguments, done.returncode, done.stdout, done.stderr)
        return done

    def kv(command, *more, status=0):
        return run("kv", command, "--store", store, *more, status=status)

    # No store: said so, and none is made.
    assert "there is no kv store" in kv("stat", status=1).stderr
    assert not store.exists()

    run("model", "synth", "--shape", "nano", "--layers", "3", "--experts", "4", "--vocab", "300", work / "model")
    prompt = ",".join(str(i * 31 % 300) for i in range(700))
    generate = ("model", "generate", work / "model", "--prompt-ids", prompt, "--max-tokens", "8", "--kv-store", store)
    first = run(*generate)

    stat = json.loads(kv("stat", "--json").stdout)
    assert stat["blocks"] == 5 and stat["tails"] >= 1 and stat["damaged"] == 0, stat
    assert stat["disk_bytes"] >= stat["used_bytes"] > 0, stat
    assert "blocks" in kv("stat").stdout

    chains = [json.loads(line) for line in kv("ls", "--json").stdout.splitlines()]
    assert [c["blocks"] for c in chains] == [5] and chains[0]["deepest_tail"] == 5 and chains[0]["complete"], chains
    segments = [json.loads(line) for line in kv("ls", "--segments", "--json").stdout.splitlines()]
    assert sum(s["file_bytes"] for s in segments) == stat["disk_bytes"], segments
    assert chains[0]["end"][:12] in kv("ls").stdout

    assert json.loads(kv("verify", "--json").stdout) == {
        "slots": stat["blocks"] + stat["tails"], "bytes": stat["used_bytes"], "damaged": 0}

    # Another process has it.
    with open(store / "LOCK", "r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = kv("stat", status=1).stderr
        assert "in use by another process" in refused, refused

    # A flipped bit is found, said, and mended by the next run.
    blocks = next(pathlib.Path(s["path"]) for s in segments if s["kind"] == "blocks")
    data = bytearray(blocks.read_bytes())
    data[8192 + 5] ^= 1
    blocks.write_bytes(data)
    damaged = kv("verify", status=1)
    assert "1 damaged" in damaged.stdout and "checksum mismatch" in damaged.stderr, damaged
    assert run(*generate).stdout == first.stdout
    kv("verify")
    assert json.loads(kv("stat", "--json").stdout)["blocks"] == 5

    # Something else lies there: left alone.
    other = work / "other"
    other.mkdir()
    (other / "letter.txt").write_text("dear")
    strange = run(*generate[:-1], other, status=1).stderr
    assert "not a kv store" in strange and [p.name for p in other.iterdir() if p.name != "LOCK"] == ["letter.txt"], strange

    assert json.loads(kv("gc", "--max-bytes", "0", "--json").stdout)["disk_bytes_after"] == 0
    assert json.loads(kv("stat", "--json").stdout)["blocks"] == 0
    assert run(*generate).stdout == first.stdout
    kv("gc", status=2)  # --max-bytes is required


if __name__ == "__main__":
    main()
