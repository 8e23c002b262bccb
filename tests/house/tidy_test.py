#!/usr/bin/env python3
"""Tidy test: the house rules that a script can check.

    python3 tests/house/tidy_test.py               checks the repository
    python3 tests/house/tidy_test.py --self-test   checks the checker on planted violations

Rules
  todo              a to-do names its owner and reason: TODO(name): reason
  file-length       no source file above the line limit
  function-length   no function above the line limit (tests apart)
  header-guard      every header has #pragma once or an include guard
  using-namespace   no `using namespace` in a header
  shared-ptr        shared ownership has a comment beside it that says why
  std-regex         no std::regex
  absl-mutex        no absl::Mutex: ThreadSanitizer reports false races for it
  whitespace        no tabs, no trailing blanks, no CR; the file ends with one newline
  machine-path      no absolute path of one machine
  test-mirror       tests/<folder>/<unit>_test.cc has a unit <folder>/**/<unit>
  cmake-list        every source file is listed in a CMakeLists.txt of its folder
  doc-link          a link in a page, or a page named in a source file, exists

Limits and exceptions: tests/house/tidy.json.
"""

import json
import re
import sys
from pathlib import Path

import tree
from tree import Finding

SETTINGS = json.loads(tree.read_text(Path(__file__).parent / "tidy.json"))

SOURCE_SUFFIXES = tree.CXX_SUFFIXES + (".py", ".sh", ".cmake", ".proto", ".sql")
TEXT_SUFFIXES = SOURCE_SUFFIXES + (".md", ".json", ".yml", ".yaml", ".toml")
SCRIPT_FOLDERS = ("scripts/", ".ci/")
HEADERS = (".h", ".cuh")
DATA_FOLDERS = ("tests/golden/", "tests/house/planted/")

Found = tuple[int, str, str]  # line, rule, message


def is_script(path: str) -> bool:
    return path.startswith(SCRIPT_FOLDERS) and "." not in path.rsplit("/", 1)[-1]


def is_source(path: str) -> bool:
    return path.endswith(SOURCE_SUFFIXES) or path.endswith("CMakeLists.txt") or is_script(path)


def is_text(path: str) -> bool:
    return is_source(path) or path.endswith(TEXT_SUFFIXES)


def excused(kind: str, path: str, name: str = "") -> bool:
    return any(e["path"] == path and e.get("name", "") == name and e.get("reason") for e in SETTINGS[kind])


# --- rules over the text of one file ---------------------------------------------------------------

TRAILING = re.compile(r"[ \t\r]+$")
MARK = re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b")
GOOD_MARK = re.compile(r"\bTODO\([\w.@-]+\): \S+")


def check_whitespace(text: str) -> list[Found]:
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        if TRAILING.search(line):
            found.append((number, "whitespace", "trailing blanks"))
        elif "\t" in line:
            found.append((number, "whitespace", "tab"))
    if text and (not text.endswith("\n") or text.endswith("\n\n")):
        found.append((text.count("\n") + 1, "whitespace", "the file must end with one newline"))
    return found


def check_machine_paths(root: Path, text: str) -> list[Found]:
    names = "|".join(map(re.escape, SETTINGS["machine_path_roots"]))
    pattern = re.compile(rf"(?<![\w./}})*])/(?:{names})/[\w.-]|{re.escape(str(root))}(?![\w-])")
    return [(number, "machine-path", f"`{m.group()}`: an absolute path of one machine")
            for number, line in enumerate(text.split("\n"), 1) if (m := pattern.search(line))]


def check_todo(comments: list[str]) -> list[Found]:
    return [(number, "todo", "write TODO(name): reason")
            for number, line in enumerate(comments, 1)
            if len(MARK.findall(line)) > len(GOOD_MARK.findall(line))]


def script_comments(text: str) -> list[str]:
    return [line[line.find("#"):] if re.search(r"(?:^|\s)#", line) else "" for line in text.split("\n")]


# --- rules over C++ ---------------------------------------------------------------------------------

def check_header(code: list[str]) -> list[Found]:
    found = [(number, "using-namespace", "no `using namespace` in a header")
             for number, line in enumerate(code, 1) if re.search(r"\busing\s+namespace\b", line)]
    lines = [line.strip() for line in code if line.strip()]
    guarded = any(re.fullmatch(r"#\s*pragma\s+once", line) for line in lines) or any(
        re.match(r"#\s*(ifndef|if\s+!?\s*defined)", a) and re.match(r"#\s*(define|undef|ifdef|ifndef)", b)
        for a, b in zip(lines[:1], lines[1:2]))
    # Highway's -inl.h files are included once per target, by their own toggle.
    toggled = any("HWY_TARGET_TOGGLE" in line for line in lines)
    if not guarded and not toggled:
        found.append((0, "header-guard", "add #pragma once"))
    return found


def check_words(code: list[str], comments: list[str]) -> list[Found]:
    found = []
    shared_ok = False  # the line before has a comment, or shared_ptr excused by one
    for number, (line, comment) in enumerate(zip(code, comments), 1):
        if re.search(r"\bstd::w?regex\b", line):
            found.append((number, "std-regex", "no std::regex"))
        if re.search(r"\babsl::Mutex(?:Lock)?\b", line):
            found.append((number, "absl-mutex", "use std::mutex"))
        has_comment = bool(comment.strip())
        if re.search(r"\b(?:make_|allocate_)?shared_ptr\b|\bmake_shared\b", line):
            shared_ok = shared_ok or has_comment
            if not shared_ok:
                found.append((number, "shared-ptr", "say in a comment beside it why ownership is shared"))
        else:
            shared_ok = has_comment
    return found


SCOPE = re.compile(r"\b(?:namespace|class|struct|union)\b|^\s*extern\s*$")
SIGNATURE = re.compile(r"([\w:~]+|operator\s*\S+)\s*\(")


def is_initialiser(header: str) -> bool:
    """Whether a brace after this text opens an initialiser: a default argument, or `a_{1}` of a constructor."""
    if header.count("(") > header.count(")"):
        return True
    return re.search(r"\)[\w\s]*:(?!:).*[\w>]$", header, re.DOTALL) is not None


def function_spans(code: list[str]) -> list[tuple[str, int, int]]:
    """(name, first line, last line) of functions defined at namespace or class scope."""
    spans = []
    scopes: list[str] = []  # open braces: scope, function, initialiser, other
    header, header_line, name, start = "", 0, "", 0
    continued = False
    for number, line in enumerate(code, 1):
        if continued or line.lstrip().startswith("#"):
            continued = line.endswith("\\")
            continue
        for char in line + "\n":
            inside = any(s != "scope" for s in scopes)
            if char == "{":
                if inside:
                    kind = "other"
                elif is_initialiser(header):
                    scopes.append("initialiser")
                    continue
                elif SCOPE.search(re.sub(r"\([^()]*\)|<[^<>]*>", "", header)) and not header.rstrip().endswith(")"):
                    kind = "scope"
                elif (match := SIGNATURE.search(header)) and "=" not in header[:match.start()]:
                    kind, name, start = "function", match.group(1), header_line
                else:
                    kind = "other"
                scopes.append(kind)
                header = ""
            elif char == "}":
                if not scopes:
                    return spans  # unbalanced (conditional compilation): judge nothing more
                closed = scopes.pop()
                if closed == "function":
                    spans.append((name, start, number))
                header = header + "{}" if closed == "initialiser" else ""
            elif char == ";" and not inside:
                header = ""
            elif not inside:
                if not header.strip() and not char.isspace():
                    header_line = number
                header += char
    return spans


def check_functions(path: str, code: list[str]) -> list[Found]:
    limit = SETTINGS["function_lines_max"]
    return [(first, "function-length", f"{name}: {last - first + 1} lines, the limit is {limit}")
            for name, first, last in function_spans(code)
            if last - first + 1 > limit and not excused("long_functions", path, name)]


def check_cxx(path: str, text: str) -> list[Found]:
    code, comments = tree.split_cxx(text)
    found = check_todo(comments) + check_words(code, comments)
    if path.endswith(HEADERS):
        found += check_header(code)
    if not path.startswith("tests/"):
        found += check_functions(path, code)
    return found


# --- rules over the tree ----------------------------------------------------------------------------

def check_test_mirror(path: str, files: set[str]) -> list[Found]:
    match = re.fullmatch(r"tests/(\w+)/(?:.+/)?(\w+)_test\.(?:cc|cu)", path)
    if not match or match[1] in ("integration", "simulation", "fuzz", "house"):
        return []
    folder = "tests/support" if match[1] == "support" else match[1]
    unit = re.compile(rf"{re.escape(folder)}/(?:.+/)?{re.escape(match[2])}(?:-inl)?\.(?:h|cc|cu|cuh)")
    if any(unit.fullmatch(f) for f in files) or excused("cross_unit_tests", path):
        return []
    return [(0, "test-mirror", f"no unit {folder}/**/{match[2]}; a test of several units is named in tidy.json")]


def check_cmake_list(path: str, files: set[str], lists: dict[str, str]) -> list[Found]:
    if not path.endswith((".cc", ".cu")):
        return []
    parts = path.split("/")
    for depth in range(len(parts) - 1, 0, -1):
        name = "/".join(parts[:depth]) + "/CMakeLists.txt"
        relative = re.escape("/".join(parts[depth:]))
        stem = re.escape("/".join(parts[depth:]).rsplit(".", 1)[0])
        if name in lists and re.search(rf"(?<![\w./-])(?:{relative}|{stem})(?![\w./-])", lists[name]):
            return []
    return [(0, "cmake-list", "not listed in the CMakeLists.txt of its folder")]


def slug(heading: str) -> str:
    heading = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading.strip().lower())
    return re.sub(r"[^\w\- ]", "", heading).replace(" ", "-")


def anchors(text: str) -> set[str]:
    return {slug(h) for h in re.findall(r"^#+ (.+)$", text, re.MULTILINE)} | set(
        re.findall(r"""<a (?:id|name)=["']([^"']+)""", text))


MARKDOWN_LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")


def blank_fences(text: str) -> str:
    text = re.sub(r"^(```|~~~).*?^\1", lambda m: re.sub(r"[^\n]", " ", m.group()), text, flags=re.M | re.S)
    return re.sub(r"`[^`\n]*`", lambda m: " " * len(m.group()), text)


def check_markdown_links(root: Path, path: str, text: str) -> list[Found]:
    found = []
    for number, line in enumerate(blank_fences(text).split("\n"), 1):
        for target in MARKDOWN_LINK.findall(line):
            if re.match(r"[a-z][a-z0-9+.-]*:", target):
                continue
            name, _, anchor = target.partition("#")
            page = (root / path).parent / name if name else root / path
            if not page.exists():
                found.append((number, "doc-link", f"{target} does not exist"))
            elif anchor and page.suffix == ".md" and anchor not in anchors(tree.read_text(page)):
                found.append((number, "doc-link", f"{target}: no such heading"))
    return found


def check_named_pages(root: Path, text: str) -> list[Found]:
    return [(number, "doc-link", f"{name} does not exist")
            for number, line in enumerate(text.split("\n"), 1)
            for name in re.findall(r"(?<![\w/.])docs/[\w./-]+\.md\b", line) if not (root / name).exists()]


def check_exceptions(root: Path, found_without: dict[str, set[tuple[str, str]]]) -> list[Finding]:
    findings = []
    for kind, needed in found_without.items():
        for entry in SETTINGS[kind]:
            if not entry.get("reason", "").strip():
                findings.append(Finding(entry["path"], 0, "exception", f"{kind}: an exception needs a reason"))
            elif (entry["path"], entry.get("name", "")) not in needed:
                findings.append(Finding(entry["path"], 0, "exception", f"{kind}: no longer needed"))
    return findings


def needed_exceptions(root: Path, names: list[str]) -> dict[str, set[tuple[str, str]]]:
    """What would be found if tidy.json excused nothing."""
    kinds = ("long_files", "long_functions", "cross_unit_tests")
    kept = {kind: SETTINGS[kind] for kind in kinds}
    needed: dict[str, set[tuple[str, str]]] = {kind: set() for kind in kinds}
    try:
        SETTINGS.update({kind: [] for kind in kinds})
        for path in {entry["path"] for kind in kinds for entry in kept[kind]} & set(names):
            for _, rule, message in check_path(root, path, set(names), {}):
                if rule == "file-length":
                    needed["long_files"].add((path, ""))
                elif rule == "function-length":
                    needed["long_functions"].add((path, message.rsplit(": ", 1)[0]))
                elif rule == "test-mirror":
                    needed["cross_unit_tests"].add((path, ""))
    finally:
        SETTINGS.update(kept)
    return needed


# --- all together -----------------------------------------------------------------------------------

def check_path(root: Path, path: str, files: set[str], lists: dict[str, str]) -> list[Found]:
    text = tree.read_text(root / path)
    found = check_whitespace(text) + check_machine_paths(root, text)
    if path.endswith(".md"):
        return found + check_markdown_links(root, path, text)
    if not is_source(path):
        return found
    found += check_named_pages(root, text)
    limit = SETTINGS["file_lines_max"]
    if text.count("\n") > limit and not excused("long_files", path):
        found.append((0, "file-length", f"{text.count(chr(10))} lines, the limit is {limit}"))
    if path.endswith(tree.CXX_SUFFIXES):
        found += check_cxx(path, text) + check_test_mirror(path, files) + check_cmake_list(path, files, lists)
    elif not path.endswith((".proto", ".sql")):
        found += check_todo(script_comments(text))
    return found


def check(root: Path) -> list[Finding]:
    names = tree.list_files(root)
    files = set(names)
    lists = {n: tree.read_text(root / n) for n in names if n.endswith("CMakeLists.txt")}
    findings = []
    for path in names:
        if is_text(path) and not path.startswith(DATA_FOLDERS):
            findings += [Finding(path, *f) for f in check_path(root, path, files, lists)]
    if root == tree.ROOT:
        findings += check_exceptions(root, needed_exceptions(root, names))
    return findings


if __name__ == "__main__":
    sys.exit(tree.main_of("tidy_test", check, __doc__))
