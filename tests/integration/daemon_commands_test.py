"""The command line against a daemon: a goal is begun, watched, looked at, forked, gone back in, taken over; errors say what
to do; Ctrl-C leaves the work alone; the daemon is started and stopped by commands.

Usage: daemon_commands_test.py HOLDFAST WORK_DIRECTORY
"""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
OLD, NEW = "quorvantel_limit", "brimsway_bound"
GOAL = f"Rename `{OLD}` to `{NEW}`."
CHECK = f"! grep -rqw {OLD} . && grep -qw {NEW} user.cc"


def main() -> None:
    holdfast, work = sys.argv[1], pathlib.Path(sys.argv[2])
    shutil.rmtree(work, ignore_errors=True)
    repository = work / "repository"
    (repository / ".git").mkdir(parents=True)
    (repository / "limits.h").write_text(f"#pragma once\nint {OLD}();\n")
    (repository / "limits.cc").write_text(f'#include "limits.h"\nint {OLD}() {{ return 12; }}\n')
    (repository / "user.cc").write_text(f'#include "limits.h"\nint main() {{ return {OLD}() - 12; }}\n')
    # A socket's path is short.
    data = pathlib.Path(f"/tmp/holdfast-test-{os.getpid()}")
    environment = dict(os.environ, HOLDFAST_DATA=str(data))
    environment.pop("HOLDFAST_MODEL", None)

    def start(*words):
        return subprocess.Popen([holdfast, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                cwd=repository, env=environment)

    def run(*words, status=0):
        process = start(*words)
        out, err = process.communicate(timeout=600)
        assert process.returncode == status, (words, process.returncode, out, err)
        return out, err

    def lines(*words):
        return [json.loads(line) for line in run(*words, "--json")[0].splitlines()]

    try:
        # Without a daemon: said so, and nothing is made.
        for command in ("sessions", "show", "status", "stop", "diff"):
            assert "no daemon runs" in run(command, status=1)[1]
        assert "there are no sessions" in run("resume", "nope", status=1)[1]
        assert not data.exists()
        run("run", status=2)
        run("nonsense", status=2)
        assert "the goal is empty" in run("run", " ", status=1)[1]
        assert "no such" in run("run", GOAL, "--repo", work / "absent", status=1)[1].lower()
        assert "complete -F" in run("completion", "bash")[0]
        subprocess.run(["bash", "-n"], input=run("completion", "bash")[0], text=True, check=True)
        assert not data.exists()

        # A goal; its daemon is started, with the model that ships, and says so.
        out, err = run("run", GOAL, "--check", CHECK, "--id", "goal", "--threads", "1")
        assert "the small one that ships" in err, err
        assert "session goal" in out and f"[goal] check (end) {CHECK[:20]}" in out and "SUCCEEDED" in out, out
        assert "prefilled" in out, out
        assert OLD in (repository / "user.cc").read_text(), "nothing is applied unasked"

        status = lines("status")[0]
        assert status["data_directory"] == str(data), status
        listed = lines("sessions")
        assert [s["name"] for s in listed] == ["sessions/goal"], listed
        shown = lines("show")[0]  # the last one of this repository
        assert shown["goal"]["state"] == "STATE_SUCCEEDED" and shown == lines("show", "go")[0], shown
        assert "there is no session" in run("show", "nobody", status=1)[1]
        assert "SUCCEEDED" in run("show")[0]

        # Watching it: every event once, in order, as the record has them.
        events = lines("events", "goal")
        assert [int(e["sequence"]) for e in events] == list(range(1, len(events) + 1))
        watched = lines("watch", "goal", "--all")
        assert watched[:len(events)] == events and watched[-1]["name"] == "sessions/goal", watched
        assert "there are more" in run("events", "goal", "--limit", "3")[1]

        # Another session with this history; the first one back to before its goal.
        fork = lines("fork", "goal", "--id", "twin")[0]
        assert fork["name"] == "sessions/twin" and fork["parent"] == "sessions/goal", fork
        run("archive", "twin")
        assert [s["name"] for s in lines("sessions")] == ["sessions/goal"]
        assert len(lines("sessions", "--archived")) == 2

        assert "holdfast stop" in run("audit", "goal", status=1)[1]
        # What it has changed; one path of it, then the rest.
        changed = lines("diff", "goal")[0]
        assert [p["path"] for p in changed["paths"]] == ["limits.cc", "limits.h", "user.cc"], changed
        assert (changed["added"], changed["removed"]) == ("3", "3"), changed
        text = run("diff", "goal", "user.cc")[0]
        assert f"-int main() {{ return {OLD}() - 12; }}" in text and f"+int main() {{ return {NEW}() - 12; }}" in text, text
        assert "limits.h" not in text.replace('#include "limits.h"', ""), text
        assert "say what is to be applied" in run("apply", "goal", status=1)[1]
        assert "applied 1 path" in run("apply", "goal", "limits.h")[0]
        assert OLD in (repository / "user.cc").read_text() and NEW in (repository / "limits.h").read_text()
        assert "applied 2 paths" in run("apply", "goal", "--all")[0]
        assert NEW in (repository / "user.cc").read_text()

        # Ctrl-C in a watch leaves; the daemon works on.
        watch = start("watch", "goal", "--forever")
        assert watch.stdout.readline()
        watch.send_signal(signal.SIGINT)
        watch.communicate(timeout=60)
        assert watch.returncode == 130, watch.returncode
        run("status")

        # The daemon ends when it is asked to, and its log stays.
        assert "stopped" in run("stop")[0]
        assert "serving" in run("logs")[0]
        assert "no daemon runs" in run("status", status=1)[1]
        # The next one is started by whoever goes on, and has everything.
        assert "SUCCEEDED" in run("resume", "goal", "--threads", "1")[0]
        run("stop")
    finally:
        subprocess.run([holdfast, "stop"], env=environment, capture_output=True, timeout=120)
        shutil.rmtree(data, ignore_errors=True)
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
