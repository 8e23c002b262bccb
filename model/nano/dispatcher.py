"""The real tools in place of the stand-in: `holdfast tools run` on a tree written out for one episode.

What a stand-in plays on top of tools is not there: commands with outputs from a table, files that somebody else
changes, outcomes that nobody knows.
"""

import json
import subprocess
import tempfile
from pathlib import Path

from model.nano import standin


class Dispatcher:
    """The same calls as standin.StandIn's. Use in a `with`: a process and a directory belong to it."""

    def __init__(self, files: dict[str, str], holdfast: str):
        self.tools = {standin.load_tool(t)["function"]["name"]: standin.load_tool(t)
                      for t in standin.load_profile()["tools"]}
        self.folder = tempfile.TemporaryDirectory()
        for path, text in files.items():
            whole = Path(self.folder.name) / path
            whole.parent.mkdir(parents=True, exist_ok=True)
            whole.write_bytes(text.encode())
        self.process = subprocess.Popen([holdfast, "tools", "run", "--tree", self.folder.name, "--profile", "nano"],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        self.folder.cleanup()

    def call(self, name: str, arguments: dict) -> str:
        return self._ask({"tool": name, "arguments": arguments})["text"]

    def tree_hash(self) -> str:
        return self._ask({"op": "hash"})["hash"]

    def _ask(self, line: dict) -> dict:
        self.process.stdin.write(json.dumps(line) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer


def covers(started: tuple[dict, dict | None, dict]) -> bool:
    """Whether a world as of Teacher.started is one of files alone."""
    files, outputs, events = started
    return not events and not any(outputs or {})
