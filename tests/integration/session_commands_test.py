"""A data directory with one session and no daemon: looking, proving, taking it elsewhere, and its errors.

Usage: session_commands_test.py HOLDFAST WORK_DIRECTORY FIXTURE CHECKPOINT
"""
import fcntl
import json
import pathlib
import shutil
import sqlite3
import subprocess
import sys


def main() -> None:
    holdfast, work, fixture, model = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3], sys.argv[4]
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    data, other, file = work / "data", work / "other", work / "lease.hfs"

    def session(command, *more, data=data, status=0):
        group = [] if command in ("audit", "export", "import") else ["session"]
        arguments = [holdfast, *group, command, "--data", str(data), *map(str, more)]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=300)
        assert done.returncode == status, (arguments, done.returncode, done.stdout, done.stderr)
        return done

    # No sessions: said so, and nothing is made.
    assert "there are no sessions" in session("list", status=1).stderr
    assert not data.exists()

    subprocess.run([fixture, model, data], check=True, timeout=300)
    row = json.loads(session("list", "--json").stdout)
    assert row["id"] == "lease" and row["state"] == "RUNNING", row
    shown = json.loads(session("show", "lease", "--json").stdout)
    assert shown["tokens_sampled"] > 0 and shown["tokens_fed"] > 0, shown
    assert "lease" in session("list").stdout and "TOKEN_RUN" in session("show", "lease").stdout
    events = [json.loads(line) for line in session("events", "lease", "--json", "--limit", 1000).stdout.splitlines()]
    assert [e["event"] for e in events] == list(range(1, row["events"] + 1)), events
    assert "What is a lease?" in session("events", "lease", "--after", 3, "--limit", 1).stdout
    assert "there is no session" in session("show", "nobody", status=1).stderr
    assert json.loads(session("rebuild", "lease", "--json").stdout)["corrected"] == 0

    report = json.loads(session("audit", "lease", "--model", model, "--json").stdout)
    assert report["proven"] and report["sampled"] == shown["tokens_sampled"], report
    assert "proven" in session("audit", "lease", "--model", model).stdout

    # Other numerics: said, and not proven.
    unproven = session("audit", "lease", "--model", model, "--precision", "reference", "--json", status=1)
    assert json.loads(unproven.stdout)["not_provable"][0]["tokens"] == shown["tokens_sampled"], unproven

    # Another process has it.
    with open(data / "holdfast.db.lock", "r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "in use" in session("list", status=1).stderr

    # Out and in again: the same record, at rest, and as good.
    exported = json.loads(session("export", "lease", file, "--json").stdout)
    assert exported["events"] == row["events"] and exported["blobs"] == 1, exported
    assert "there already" in session("export", "lease", file, status=1).stderr
    assert "here already" in session("import", file, status=1).stderr
    imported = json.loads(session("import", file, "--json", data=other).stdout)
    assert imported["session"] == "lease" and imported["state"] == "PAUSED", imported
    again = [json.loads(line) for line in
             session("events", "lease", "--json", "--limit", 1000, data=other).stdout.splitlines()]
    assert again[:-1] == events, again
    assert json.loads(session("audit", "lease", "--model", model, "--json", data=other).stdout)["proven"]

    # A file with a flipped bit is refused, and leaves no session.
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    file.write_bytes(damaged)
    session("import", file, data=work / "third", status=1)
    assert session("list", "--json", data=work / "third").stdout == ""

    session("archive", "lease")
    assert session("list", "--json").stdout == ""

    # An altered event is found, whoever altered it.
    database = sqlite3.connect(data / "holdfast.db")
    database.execute("UPDATE event SET utc_ms = utc_ms + 1 WHERE seq = 6")
    database.commit()
    database.close()
    found = session("audit", "lease", "--model", model, "--json", status=1)
    assert json.loads(found.stdout)["finding"]["event"] == 6, found
    assert "event 6" in found.stderr, found


if __name__ == "__main__":
    main()
