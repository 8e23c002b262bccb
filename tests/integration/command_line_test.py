#!/usr/bin/env python3
"""What bash runs, holdfast has seen: random command lines, taken apart by tools/command_line.h and run by bash.

    command_line_test.py DUMP [--count N] [--seed S]

Nothing is on bash's PATH; a command that is not found reports itself. Every command that bash tries to run must be
among those that were seen, unless the line was said to be uncertain. The lines are made from pieces that mean
something to a shell, most of them malformed.
"""

import argparse
import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import tempfile

PIECES = """a b c1 c2 rm ls x=1 A= y+=2 -c -x 'q' 'q;r' "d" "d e" "$v" "$(s1)" "`s2`" "${v:-$(s3)}" $v ${v} ${v:-s4} $(s5) `s6`
$((1+1)) $((v+$(s7))) <(p1) >(p2) ; ;; & && | || |& ! ( ) { } if then elif else fi for in do done while until case esac
function [[ ]] (( )) time -p > >> < 2> 2>&1 >&2 &> >| <<< <<E <<'E' <<-E E \n \n \n \\ \\\\n # ' " ` $ ${ $( $(( )) } {m,n} {1..2}
* ? [ ] ~ = == $'z' $"w" eval trap bash sh -c 'i1;i2' "i3 i4" env xargs test printf f() f 'a[$(h1)]' @P ${v@P} ${!v} ${#v} ${v#'}'}
"${v:-'}" "${v:-"y"}" coproc select true false : . source /dev/stdin exec cd alias b=c local export""".split(" ")
PIECES = [p.replace("\\n", "\n") for line in PIECES for p in line.split("\n") if p or line == "\n"]
GLUE = ["", " ", " ", " ", "\n", ";", " ; ", "&&"]

# Bash calls the function for a command that it does not find. Endless loops end by the limit on CPU time.
SCRIPT = r"""ulimit -t 1 -f 1000
command_not_found_handle() { builtin printf '%s\0' "$1" >> "$HOME/../ran"; builtin return 127; }
builtin eval "$LINE"
"""


def pieces(rng: random.Random) -> str:
    text = ""
    for _ in range(rng.randint(1, 12)):
        text += rng.choice(PIECES) + rng.choice(GLUE)
    return text


class Writer:
    """Well-formed lines, in which each command has a name of its own."""

    def __init__(self, rng: random.Random):
        self.rng, self.names = rng, 0

    def name(self) -> str:
        self.names += 1
        name = f"n{self.names}"
        return self.rng.choice([name, name, name, f"'{name}'", f"\\{name}", f"n\"{self.names}\"", f"x=1 {name}"])

    def word(self, depth: int) -> str:
        inner = self.command(depth - 1) if depth > 0 else "v"
        flat = inner.replace("'", "").replace("`", "").replace("\\", "")
        return self.rng.choice(["w", "-o", "'w;w'", '"w w"', "$v", '"$v"', "*.c", "~", "{a,b}", "$((1+2))", "#w", "w#w", "\\;"] + (
            [f"$({inner})", f'"$({inner})"', f"${{v:-$({inner})}}", f'"a ${{v:-$({inner})}} b"', f"<({inner})", f"$(( $({inner}) ))",
             f"'{flat}'", f"`{flat}`", f"$({inner}\n)", f'"`{flat}`"', f"v$({inner})w"] if depth > 0 else []))

    def simple(self, depth: int) -> str:
        words = [self.name()] + [self.word(depth) for _ in range(self.rng.randint(0, 3))]
        text = " ".join(words)
        text += self.rng.choice(["", "", "", " > f", " 2>&1", " >>f 2>/dev/null", " <<< w", " &> f"])
        return text

    def command(self, depth: int) -> str:
        c = lambda: self.command(depth - 1)
        if depth <= 0:
            return self.simple(0)
        return self.rng.choice([
            lambda: self.simple(depth), lambda: self.simple(depth), lambda: self.simple(depth),
            lambda: f"{c()} && {c()}", lambda: f"{c()} || {c()}", lambda: f"{c()}; {c()}", lambda: f"{c()}\n{c()}",
            lambda: f"{c()} | {c()}", lambda: f"({c()})", lambda: f"{{ {c()}; }}", lambda: f"! {c()}",
            lambda: f"if {c()}; then {c()}; else {c()}; fi", lambda: f"for i in {self.word(depth - 1)} b; do {c()}; done",
            lambda: f"while {c()}; do {c()}; break; done", lambda: f"[[ -n {self.word(0)} || a < b ]] || {c()}",
            lambda: f"{self.simple(0)} <<E\n$({c()}) \" '\nE\n{c()}", lambda: f"{self.simple(0)} <<'E'\n$({c()})\nE\n{c()}",
            lambda: f"{c()} # {c()}".replace("\n", " "), lambda: f"time {c()}", lambda: f"eval '{self.simple(0).replace(chr(39), '')}'",
        ])()


def lines(rng: random.Random, count: int):
    for i in range(count):
        if i % 3 == 0:
            yield pieces(rng)
            continue
        text = Writer(rng).command(rng.randint(1, 3))
        if i % 3 == 2:  # damaged
            for _ in range(rng.randint(1, 3)):
                at = rng.randint(0, len(text))
                cut = rng.choice([0, 0, 1, 2, 5])
                text = text[:at] + rng.choice(["", rng.choice(PIECES), rng.choice("()'\"`$;&|<>{}#\\\n !")]) + text[at + cut:]
        yield text


def taken_apart(dump: str, commands: list[str]) -> list[dict]:
    text = "".join(c + "\0" for c in commands).encode()
    out = subprocess.run([dump], input=text, stdout=subprocess.PIPE, check=True).stdout.decode()
    return [json.loads(line) for line in out.splitlines()]


def programs(seen: dict) -> set[str]:
    """The first word of each command that is no assignment, without its quotes."""
    names = set()
    for text in seen["commands"]:
        units = [int(text[i:i + 3], 16) for i in range(0, len(text), 3)]
        words = shlex.split("".join("\ufffd" if u == 0x100 else chr(u) for u in units))
        while len(words) > 1 and re.match(r"[A-Za-z_]\w*\+?=", words[0]):
            words.pop(0)
        # `time` may be a word of the grammar or a program: what it runs is seen as its arguments.
        names |= set(words if words[:1] == ["time"] else words[:1])
    return names


def ran_by_bash(command: str) -> set[str]:
    with tempfile.TemporaryDirectory() as folder:
        home = folder + "/home"
        os.mkdir(home)
        env = {"PATH": folder + "/none", "HOME": home, "LC_ALL": "C", "LINE": command}
        bash = subprocess.Popen(["/bin/bash", "-c", SCRIPT], cwd=home, env=env, stdin=subprocess.DEVNULL,
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            bash.wait(timeout=20)
        except subprocess.TimeoutExpired:
            pass
        try:
            os.killpg(bash.pid, signal.SIGKILL)  # what it left in the background
        except ProcessLookupError:
            pass
        bash.wait()
        try:
            with open(folder + "/ran", encoding="latin-1") as ran:
                return set(ran.read().split("\0")[:-1])
        except FileNotFoundError:
            return set()


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("dump")
    parser.add_argument("--count", type=int, default=900)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    commands = list(lines(random.Random(options.seed), options.count))
    certain = ran = missed = 0
    for command, seen in zip(commands, taken_apart(options.dump, commands)):
        if not seen["certain"]:
            continue
        certain += 1
        names = ran_by_bash(command)
        ran += len(names)
        for name in sorted(names):
            if name not in programs(seen):
                missed += 1
                print(f"bash ran {name!r}, which was not seen, in {command!r}: {sorted(programs(seen))}")
    print(f"{len(commands)} lines, {certain} certain, {ran} commands run by bash, {missed} not seen")
    if certain < options.count // 50 or ran < options.count // 100:
        print("too few of them say anything")
        return 1
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
