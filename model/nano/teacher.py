"""The scripted teacher: plays one episode of a skill and leaves the messages, the tree and the tools behind.

Skills: drill (repeat a string, look one up in a list: copying and nothing else), line (find in a one-line tree), find
(find in a small real tree), rename, check (rename, then run a command), set (a value in a configuration file), report
(run the checks, say which failed), needle (answer from far back). A "+prompt" after a skill's name puts nano's prompt
prefix before it. Troubles come with the skills: nothing found, a file that changed between look and edit, a failing
command, an outcome that nobody knows.
"""

import collections
import functools
import json
import random
import re

from model.nano import names, standin

IDENTIFIER = re.compile(r"\b[A-Za-z_][A-Za-z0-9_]{4,30}\b")
COMMANDS = ["make check", "ctest", "ninja test", "make -s", "./check.sh", "scripts/test", "cargo test", "npm test"]
SETTING_FORMS = [("{} = {}", ".ini"), ("{}={}", ".conf"), ("{}: {}", ".yaml"), ("\"{}\": {}", ".json"),
                 ("{} = {}", ".toml"), ("set({} {})", ".cmake"), ("#define {} {}", ".h")]


class Teacher:
    """messages: the whole episode; tools: the stand-in after it; fresh(): the stand-in before it."""

    def __init__(self, rng: random.Random, sources, skill: str):
        self.rng, self.sources, self.words = rng, sources, sources.words
        self.skill, _, self.prompt = skill.partition("+")
        self.messages, self.tools, self.started = [], None, None

    def play(self) -> list[dict]:
        if self.prompt:
            self.messages.append(prompt_prefix())
        getattr(self, "_" + self.skill)()
        return self.messages

    def _user(self, text: str):
        self.messages.append({"role": "user", "content": text})

    def _say(self, text: str):
        self.messages.append({"role": "assistant", "content": text})

    def _start(self, files: dict[str, str], outputs: dict | None = None):
        self.started = (dict(files), outputs, {})
        self.tools = self.fresh()

    def fresh(self) -> standin.StandIn | None:
        """The world as it was before the first call, with the troubles to come."""
        return self.started and standin.StandIn(*self.started)

    def _trouble(self, event: standin.Event):
        self.started[2][self.tools.calls] = self.tools.events[self.tools.calls] = event

    def _call(self, *calls: tuple[str, dict]) -> list[str]:
        """Calls tools in one turn."""
        listed = [{"id": str(i), "type": "function", "function": {"name": n, "arguments": json.dumps(a)}}
                  for i, (n, a) in enumerate(calls)]
        self.messages.append({"role": "assistant", "content": "", "tool_calls": listed})
        results = [self.tools.call(n, a) for n, a in calls]
        for i, result in enumerate(results):
            self.messages.append({"role": "tool", "tool_call_id": str(i), "content": result})
        return results

    def _chance(self, share: float) -> bool:
        return self.rng.random() < share

    # --- copying ---

    def _string(self) -> str:
        return self.rng.choice([names.identifier(self.rng, self.words, 3), names.path(self.rng, self.words),
                                names.value(self.rng)])

    def _drill(self):
        rng = self.rng
        entries = [(names.identifier(rng, self.words, 2), self._string()) for _ in range(rng.randint(2, 5))]
        self._user("\n".join(f"{name}:{what}" for name, what in entries) + "\n")
        self._say("ok")
        for _ in range(rng.randint(3, 6)):
            if self._chance(0.5):
                self._look_up(entries)
            else:
                what = self._string()
                self._user(f"Say {what}")
                self._say(what)

    def _look_up(self, entries):
        name, what = self.rng.choice(entries)
        self._user(f"`{name}`?")
        self._say(what)

    def _needle(self):
        """Facts, then some real text, then the facts are asked for."""
        rng = self.rng
        entries = [(names.identifier(rng, self.words, 3), self._string()) for _ in range(rng.randint(1, 4))]
        self._user("\n".join(f"{name}:{what}" for name, what in entries) + "\n")
        self._say("ok")
        text = rng.choice(rng.choice(list(self.sources.packages.values())))[1]
        at = rng.randrange(max(1, len(text) - 1500))
        self._user(text[at:at + int(2 ** rng.uniform(5, 10.5))] + "\n")
        self._say("ok")
        for _ in range(rng.randint(1, 3)):
            self._look_up(entries)

    # --- find ---

    def _line(self):
        name = names.identifier(self.rng, self.words, 2)
        self._find_in(name, {}, [""] * self.rng.randint(0, 300), 1)

    def _find(self):
        rng = self.rng
        name, files = names.identifier(rng, self.words), self._real_files(rng.randint(2, 6))
        host = files.popitem()[1].split("\n")
        self._find_in(name, files, host, 2)

    def _find_in(self, name: str, files: dict[str, str], lines: list[str], depth: int):
        """Puts a definition of `name` among some lines, uses of it in some files, and asks for it."""
        rng = self.rng
        lines.insert(rng.randint(0, len(lines)), f"#define {name} {names.value(rng)}")
        if self._chance(0.05):
            name = names.identifier(rng, self.words, 3)  # one that is not there
        for path in rng.sample(sorted(files), min(len(files), rng.choice([0, 1, 2, 2, 4]))):
            self._put_name(files, path, name)
        files[names.path(rng, self.words, depth)] = "\n".join(lines)
        self._start(files)
        self._user(rng.choice(["What is the value of `{}`?", "What is `{}` set to?", "Where is `{}` defined?",
                               "Find `{}`."]).format(name))
        found, = self._call(("grep", {"pattern": name}))
        place = definition(found, name)
        if place is None:
            self._say(f"No hits for `{name}`." if found == self.tools.tools["grep"]["result"]["none"] else
                      f"No definition of `{name}`.")
        else:
            self._say(f"{place[0]}:{place[1]}: {place[2]}")

    def _put_name(self, files: dict[str, str], path: str, name: str) -> bool:
        """Uses of a name in real lines: a rare identifier of the file becomes it."""
        rare = rare_identifiers(files[path])
        if rare:
            files[path] = standin.whole_word(self.rng.choice(rare)).sub(name, files[path])
        return bool(rare)

    def _real_files(self, count: int) -> dict[str, str]:
        package = self.sources.packages[self.rng.choice(list(self.sources.packages))]
        files = {}
        for path, text in self.rng.sample(package, min(count, len(package))):
            if self._chance(0.7):
                path = names.path(self.rng, self.words)
            files[path] = text
        return files

    # --- rename ---

    def _rename(self, command: str | None = None):
        """Looks, edits the first file that has hits, and looks again, until there are none."""
        rng = self.rng
        old = new = names.identifier(rng, self.words)
        while new == old:
            new = names.identifier(rng, self.words)
        files = self._real_files(rng.choice([2, 2, 3, 3, 4, 5]))
        if not self._chance(0.04):
            hit = [path for path in sorted(files) if self._chance(0.7)] or sorted(files)[:1]
            for path in hit:
                self._put_name(files, path, old)
        passes = self._chance(0.8)
        self._start(files, {command: check_output(rng, self.words, passes)})
        self._user(f"Rename `{old}` to `{new}`" + (f", then run `{command}`." if command else "."))
        found, = self._call(("grep", {"pattern": old}))
        if found == self.tools.tools["grep"]["result"]["none"]:
            return self._say(f"No hits for `{old}`.")
        if self._chance(0.05):  # somebody else takes the file away before the edit
            self._trouble(standin.Event(files={found.split("\n")[0]: None}))
        while found != self.tools.tools["grep"]["result"]["none"]:
            self._call(("edit", {"path": found.split("\n")[0], "old": old, "new": new}))
            found, = self._call(("grep", {"pattern": old}))
        if command is None:
            return self._say(f"Renamed to `{new}`.")
        self._call(("bash", {"command": command}))
        self._say(f"Renamed to `{new}`, the check " + ("passes." if passes else "fails."))

    def _check(self):
        self._rename(self.rng.choice(COMMANDS))

    # --- set a value ---

    def _set(self):
        rng = self.rng
        form, ending = rng.choice(SETTING_FORMS)
        key, old = names.identifier(rng, self.words, 2), names.setting(rng, self.words)
        new = old
        while new == old:
            new = names.setting(rng, self.words)
        path = names.path(rng, self.words, 2).rsplit(".", 1)[0] + ending
        lines = [form.format(names.identifier(rng, self.words, 2), names.setting(rng, self.words))
                 for _ in range(rng.randint(2, 30))]
        at = rng.randint(0, len(lines))
        there = not self._chance(0.05)
        if there:
            lines.insert(at, form.format(key, old))
        files = self._real_files(rng.randint(0, 2)) if self._chance(0.5) else {}
        files[path] = "\n".join(lines) + "\n"
        if files.keys() != {path} and self._chance(0.3):
            self._put_name(files, rng.choice(sorted(files.keys() - {path})), key)
        self._start(files)
        self._user(f"Set `{key}` to {new}" + (f" in {path}." if self._chance(0.5) else "."))
        found, = self._call(("grep", {"pattern": key}))
        if not there:
            return self._say(f"No hits for `{key}`.")
        self._edit_setting(path, form, key, old, new)

    def _edit_setting(self, path: str, form: str, key: str, old: str, new: str):
        """The edit; now and then somebody else has set it meanwhile (look again), or nobody knows whether it happened
        (look, and edit when it did not)."""
        edit = ("edit", {"path": path, "old": form.format(key, old), "new": form.format(key, new)})
        trouble = self.rng.random()
        if trouble < 0.15:
            other = names.setting(self.rng, self.words)
            text = self.tools.files[path].replace(form.format(key, old), form.format(key, other), 1)
            self._trouble(standin.Event(files={path: text}))
            self._call(edit)
            self._call(("grep", {"pattern": key}))
            if other != new:
                self._call(("edit", {"path": path, "old": form.format(key, other), "new": form.format(key, new)}))
        elif trouble < 0.25:
            happens = self._chance(0.5)
            self._trouble(standin.Event(unknown=True, happens=happens))
            self._call(edit)
            self._call(("grep", {"pattern": key}))
            if not happens:
                self._call(edit)
        else:
            self._call(edit)
        self._say(f"{path}: {form.format(key, new)}")

    # --- run the checks and report ---

    def _report(self):
        rng, command = self.rng, self.rng.choice(COMMANDS)
        failed = [names.identifier(rng, self.words, 3) for _ in range(rng.choice([0, 1, 1, 2, 3]))]
        passed = [names.identifier(rng, self.words, 3) for _ in range(rng.randint(0, 6))]
        output, code = check_log(rng, failed, passed)
        if self._chance(0.08):  # no check was run at all
            failed = []
            output, code = rng.choice([("bash: command not found\n", 127), ("", 2), ("No such target\n", 2)])
        self._start({}, {command: (output, code)})
        asked = rng.choice(["Run `{}` and say what fails.", "Which tests fail in `{}`?", "Run `{}`."])
        self._user(asked.format(command))
        if self._chance(0.1):  # a check may run twice
            self._trouble(standin.Event(unknown=True))
            self._call(("bash", {"command": command}))
        self._call(("bash", {"command": command}))
        if failed:
            self._say("Failed: " + ", ".join(failed))
        else:
            self._say("All pass." if code == 0 else f"Failed with exit {code}.")


def check_output(rng: random.Random, words: names.Words, passes: bool) -> tuple[str, int]:
    if passes:
        return rng.choice(["", "ok\n", "all tests passed\n"]), 0
    return check_log(rng, [names.identifier(rng, words, 3)], [])


def check_log(rng: random.Random, failed: list[str], passed: list[str]) -> tuple[str, int]:
    """What a test runner prints, in one of a few manners, and its exit code."""
    bad, good = rng.choice([("FAIL: {}", "PASS: {}"), ("not ok - {}", "ok - {}"), ("FAILED {}", "PASSED {}"),
                            ("[  FAILED  ] {}", "[       OK ] {}"), ("test {} ... FAILED", "test {} ... ok"),
                            ("Test #1: {} ...***Failed", "Test #1: {} ... Passed")])
    order = [True] * len(failed) + [False] * len(passed)
    rng.shuffle(order)  # of lines; those that failed stay in their order
    left = {True: iter(failed), False: iter(passed)}
    lines = [(bad if fails else good).format(next(left[fails])) for fails in order]
    return "\n".join(lines) + "\n" if lines else "", rng.choice([1, 2, 8]) if failed else 0


def prompt_prefix() -> dict:
    profile = standin.load_profile()
    functions = [standin.load_tool(t)["function"] for t in profile["tools"]]
    return {"role": "system", "content": profile["system"],
            "tools": [{"type": "function", "function": f} for f in functions]}


@functools.lru_cache(maxsize=4096)
def rare_identifiers(text: str) -> list[str]:
    """Identifiers that stand one to three times in a text that is not too long, and on no line with a `#`: a second
    definition would make a question ambiguous."""
    found = collections.Counter(re.findall(IDENTIFIER, text))
    if found.total() >= 3000:
        return []
    directives = {i for line in text.split("\n") if "#" in line for i in re.findall(IDENTIFIER, line)}
    return sorted(i for i, n in found.items() if n <= 3 and i not in directives)


def definition(result: str, name: str) -> tuple[str, str, str] | None:
    """(path, line, value) of the first #define of a name in a grep result."""
    path = ""
    for line in result.split("\n"):
        hit = re.match(r"(\d+):(.*)", line)
        if not hit:
            path = line
            continue
        found = re.match(rf"#define {re.escape(name)} (.*)", hit[2])
        if found:
            return path, hit[1], found[1]
    return None
