"""`holdfast doctor`: what it says where the sandbox holds, where something is missing, and where nothing would run.

Usage: doctor_test.py HOLDFAST WORK_DIRECTORY
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys


def main() -> None:
    holdfast, work = sys.argv[1], pathlib.Path(sys.argv[2])
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    data = work / "data"

    def doctor(*arguments, status=0, environment=None):
        done = subprocess.run([holdfast, "doctor", *map(str, arguments)], capture_output=True, text=True, timeout=120,
                              env={**os.environ, "XDG_DATA_HOME": str(data), **(environment or {})})
        assert done.returncode == status, (arguments, done.returncode, done.stdout, done.stderr)
        return done

    for mode in ("overlay", "direct"):
        report = json.loads(doctor("--mode", mode, "--json").stdout)
        assert report["ok"] and report["refusal"] == "" and report["mode"] == mode, report
        assert "seccomp" in report["in_force"] and "network namespace" in report["in_force"], report
        assert ("overlay workspace" in report["in_force"]) == (mode == "overlay"), report
        assert all(check["passed"] for check in report["checks"]) and len(report["checks"]) >= 15, report
        for missing in report["missing"]:
            assert missing["layer"] not in report["in_force"] and missing["remedy"], report
    assert list((data / "holdfast").iterdir()) == [], "the probe's workspace is left"

    text = doctor().stdout
    assert text.startswith("sandbox: holds\n") and "  in force: seccomp\n" in text, text
    assert "  passed: there is no way out to the network (" in text, text

    # Nothing would run: said why, and the exit status shows it.
    none = doctor("--broker", work / "no-such-program", status=1)
    assert "sandbox: REFUSES to run commands" in none.stdout and "no-such-program" in none.stdout, none.stdout
    assert none.stderr == "holdfast: commands would be refused on this machine\n", none.stderr
    refused = json.loads(doctor("--json", status=1, environment={"HOLDFAST_SANDBOX_BROKER": "/bin/true"}).stdout)
    assert not refused["ok"] and refused["in_force"] == [] and "ended at once" in refused["refusal"], refused

    # A file system that overlayfs does not take as a layer, and what would help.
    layer = doctor("--directory", "/dev/shm/../../proc", status=1)
    assert "/proc" in layer.stderr, layer.stderr

    assert "--mode" in doctor("--mode", "none", status=2).stderr
    if pathlib.Path("/usr/bin/bwrap").exists():
        report = json.loads(doctor("--backend", "bubblewrap", "--mode", "direct", "--json").stdout)
        assert report["ok"] and "locked securebits" not in report["in_force"], report
        refused = doctor("--backend", "bubblewrap", status=1)
        assert "no overlay" in refused.stdout, refused.stdout


main()
