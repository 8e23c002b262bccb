#!/usr/bin/env python3
"""Layer test: which folder may include what, and which calls belong to which folder.

    python3 tests/house/layer_test.py               checks the repository
    python3 tests/house/layer_test.py --self-test   checks the checker on planted violations

The rules are data: tests/house/layers.json. An exception there needs a reason, and one that is no
longer needed is itself a finding.
"""

import fnmatch
import json
import re
import sys
from pathlib import Path

import tree
from tree import Finding

RULES = json.loads(tree.read_text(Path(__file__).parent / "layers.json"))

INCLUDE = re.compile(r"""^\s*#\s*include\s*(?:<(?P<angle>[^>]+)>|"(?P<quote>[^"]*)")""")

STANDARD = set(
    """algorithm any array atomic barrier bit bitset cassert cctype cerrno cfenv cfloat charconv chrono
    cinttypes climits clocale cmath codecvt compare complex concepts condition_variable coroutine csetjmp
    csignal cstdarg cstddef cstdint cstdio cstdlib cstring ctime cuchar cwchar cwctype deque exception
    execution filesystem forward_list fstream functional future initializer_list iomanip ios iosfwd
    iostream istream iterator latch limits list locale map memory memory_resource mutex new numbers
    numeric optional ostream queue random ranges ratio regex scoped_allocator semaphore set shared_mutex
    source_location span sstream stack stdexcept stop_token streambuf string string_view strstream
    syncstream system_error thread tuple type_traits typeindex typeinfo unordered_map unordered_set
    utility valarray variant vector version cxxabi.h
    assert.h ctype.h errno.h float.h inttypes.h limits.h math.h stdarg.h stddef.h stdint.h stdio.h
    stdlib.h string.h time.h""".split())

# Operating system headers: allowed where the table says `posix`.
POSIX = """unistd.h fcntl.h dirent.h poll.h pthread.h pwd.h grp.h sched.h signal.h spawn.h syscall.h termios.h
    dlfcn.h elf.h link.h fts.h ftw.h glob.h fnmatch.h ifaddrs.h netdb.h endian.h byteswap.h malloc.h
    execinfo.h ucontext.h getopt.h libgen.h semaphore.h mntent.h cpuid.h
    sys/* linux/* arpa/* net/* netinet/* asm/* sanitizer/*""".split()


def matches(name: str, patterns: list[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, p) for p in patterns)


def is_under(path: str, folders: list[str]) -> bool:
    return any(path.startswith(f + "/") for f in folders)


class Place:
    """What one file may use, from where it lies."""

    def __init__(self, path: str):
        parts = path.split("/")
        folders, tests = RULES["folders"], RULES["tests"]
        self.known = True
        self.own = parts[0]
        self.sees_private: list[str] = []
        if parts[0] in folders and len(parts) > 1:
            self._take(folders[parts[0]])
            self.sees_private.append(parts[0])
        elif parts[0] == "tests" and len(parts) > 2 and parts[1] in tests:
            self._take(tests[parts[1]])
            self.may_include = self.may_include + ["tests"]
        elif parts[0] == "tests" and len(parts) > 2 and parts[1] in folders:
            self._take(folders[parts[1]])
            shared = [f"tests/{below}/*_testing.h" for below in self.may_include]
            self.may_include = self.may_include + shared + [parts[1], "tests/support", f"tests/{parts[1]}"]
            self.third_party = self.third_party + tests["every_test"]
            self.posix = ["*"]
            self.sees_private.append(parts[1])
        else:
            self.known = False

    def _take(self, entry: dict) -> None:
        self.may_include = list(entry["may_include"])
        self.third_party = entry["third_party"] + RULES["common_third_party"]
        self.posix = entry.get("posix", [])
        self.sees_private += entry.get("sees_private", [])

    def may_include_house(self, header: str) -> str:
        """Empty when this place may include the house header, else why not."""
        folder = header.split("/")[0]
        allowed = folder == self.own and folder != "tests" or any(
            matches(header, [entry]) if any(c in entry for c in "*.") else is_under(header, [entry])
            for entry in self.may_include)
        if not allowed:
            return f"may not include {folder}/ ({header})"
        private = folder in RULES["folders"] and header.count("/") > 1 and folder != "proto"
        if private and not matches(folder, self.sees_private):
            return f"{header} is private to {folder}/"
        return ""


def check_include(path: str, place: Place, header: str, quoted: bool) -> list[tuple[str, str]]:
    first = header.split("/")[0]
    house = "/" in header and (first in RULES["folders"] or first == "tests")
    if house:
        why = place.may_include_house(header)
        found = [("layer", why)] if why else []
    elif ".." in header.split("/"):
        found = [("include-path", f"{header}: no .. in an include")]
    elif header in STANDARD:
        found = []
    elif matches(header, POSIX):
        found = [] if matches(header, place.posix) else [
            ("posix-header", f"<{header}> is an operating system header; go through base/")]
    elif matches(header, place.third_party):
        found = []
    elif quoted and "/" not in header:
        found = [("include-path", f'write "{header}" as a path from the repository root')]
    else:
        found = [("third-party", f"{header} is not in the folder's third-party list")]
    for rule in RULES["header_rules"]:
        if matches(header, rule["headers"]) and not is_under(path, rule["only_in"]):
            # The special rule says it better than the table.
            found = [f for f in found if f[0] != "third-party"]
            found.append((rule["rule"], f"<{header}>: {rule['why']}"))
    return found


def compile_call_rule(rule: dict) -> re.Pattern:
    """Calls are plain or ::global names followed by `(`; members and other namespaces are not meant."""
    options = []
    if rule.get("calls"):
        names = "|".join(map(re.escape, rule["calls"]))
        options.append(rf"(?:(?<![\w.>:&~])|(?<=\bstd::)|(?<=this_thread::)|(?<![\w>])::)(?:{names})\s*\(")
    if rule.get("words"):
        options.append(rf"\b(?:{'|'.join(map(re.escape, rule['words']))})\b")
    options += rule.get("patterns", [])
    return re.compile("|".join(f"(?:{o})" for o in options))


CALL_RULES = [(rule, compile_call_rule(rule)) for rule in RULES["call_rules"]]


def check_file(root: Path, path: str) -> list[Finding]:
    place = Place(path)
    if not place.known:
        return [Finding(path, 0, "unknown-folder", "the folder is not in tests/house/layers.json")]
    code, _ = tree.split_cxx(tree.read_text(root / path))
    call_rules = [(r, p) for r, p in CALL_RULES if not is_under(path, r["only_in"])]
    findings = []
    for number, line in enumerate(code, 1):
        include = INCLUDE.match(line)
        if include:
            header = include["angle"] or include["quote"] or ""
            for rule, message in check_include(path, place, header, include["quote"] is not None):
                findings.append(Finding(path, number, rule, message))
            continue
        for rule, pattern in call_rules:
            found = pattern.search(line)
            if found:
                findings.append(Finding(path, number, rule["rule"], f"`{found.group().strip()}`: {rule['why']}"))
    return findings


def check(root: Path) -> list[Finding]:
    findings = []
    for path in tree.list_files(root):
        if path.endswith(tree.CXX_SUFFIXES):
            findings += check_file(root, path)
    if root != tree.ROOT:
        return findings
    for exception in RULES["exceptions"]:
        hit = [f for f in findings if (f.path, f.rule) == (exception["path"], exception["rule"])]
        if not exception.get("reason", "").strip():
            findings.append(Finding(exception["path"], 0, "exception", "an exception needs a reason"))
        elif not hit:
            findings.append(Finding(exception["path"], 0, "exception", f"{exception['rule']}: no longer needed"))
        findings = [f for f in findings if f not in hit]
    return findings


if __name__ == "__main__":
    sys.exit(tree.main_of("layer_test", check, __doc__))
