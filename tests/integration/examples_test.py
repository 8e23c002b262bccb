"""Runs a client of examples/ against a daemon with the shipped model, which renames a name in a small repository.

Usage: examples_test.py HOLDFAST WORK LANGUAGE; exit status 77: skipped.
"""
import os
import pathlib
import shutil
import subprocess
import sys

import daemon_testing
from daemon_testing import NANO, ROOT

OLD, NEW = "quorvantel_limit", "brimsway_bound"
FILES = {"limits.h": f"#pragma once\n\n// The most that is taken at once.\nint {OLD}();\n",
         "user.cc": f'#include "limits.h"\n\nint main() {{ return {OLD}() - 12; }}\n'}
GOAL = f"Rename `{OLD}` to `{NEW}`."
CHECK = f"! grep -rqw {OLD} . && grep -qw {NEW} user.cc"


def command_of(language: str, work: pathlib.Path) -> list:
    if language == "python":
        daemon_testing.make_stubs(work / "stubs")
        os.environ["PYTHONPATH"] = str(work / "stubs")
        return ["/usr/bin/python3", str(ROOT / "examples/python/client.py")]
    if shutil.which("node") is None or not (ROOT / "examples/node/node_modules").is_dir():
        print("skipped: no node, or not its packages: npm ci --prefix examples/node")
        sys.exit(77)
    return ["node", str(ROOT / "examples/node/client.js")]


def main() -> None:
    holdfast, work, language = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3]
    shutil.rmtree(work, ignore_errors=True)
    (work / "repository").mkdir(parents=True)
    for name, text in FILES.items():
        (work / "repository" / name).write_text(text)
    command = command_of(language, work)
    serve = [holdfast, "serve", "--data", work / "data", "--model", NANO, "--threads", "1"]
    with daemon_testing.daemon(serve, work / "log") as (_, socket):
        ran = subprocess.run(command + [socket, str(work / "repository"), GOAL, CHECK], timeout=600,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(ran.stdout)
    lines = ran.stdout.splitlines()
    assert ran.returncode == 0 and lines[0].startswith("session: sessions/"), ran.returncode
    assert lines[1:] == ["watch: again from 5", "goal: STATE_SUCCEEDED"]


if __name__ == "__main__":
    main()
