#!/usr/bin/python3
"""Proto test: names and comments of the API's protos, and what would break clients of the last release.

    /usr/bin/python3 tests/house/proto_test.py               checks the repository
    /usr/bin/python3 tests/house/proto_test.py --self-test   checks the checker on planted violations
    /usr/bin/python3 tests/house/proto_test.py --renew       makes proto/released/v1.binpb of the protos as they are

Names: the STANDARD rules of buf, and of the AIPs the standard fields. Breaking changes: those of buf's FILE and
WIRE_JSON sets that this API can meet; proto/README.md says what is allowed. Needs protoc, and Debian's
python3-protobuf, which is for Debian's own Python.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import tree
from tree import Finding

try:
    from google.protobuf import descriptor_pb2 as pb
except ImportError:
    sys.exit("proto_test: no google.protobuf for this Python: run scripts/setup, then use /usr/bin/python3")

RELEASED = "proto/released/v1.binpb"

SNAKE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
UPPER_SNAKE = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*")
PASCAL = re.compile(r"([A-Z][a-z0-9]*)+")

# Fields that mean the same everywhere (proto/README.md, "Standard fields"), with their types.
STRING, INT32, MESSAGE, ENUM = (pb.FieldDescriptorProto.TYPE_STRING, pb.FieldDescriptorProto.TYPE_INT32,
                                pb.FieldDescriptorProto.TYPE_MESSAGE, pb.FieldDescriptorProto.TYPE_ENUM)
STANDARD_FIELDS = {
    "name": (STRING, ""), "uid": (STRING, ""), "display_name": (STRING, ""), "etag": (STRING, ""),
    "request_id": (STRING, ""), "page_size": (INT32, ""), "page_token": (STRING, ""), "next_page_token": (STRING, ""),
    "create_time": (MESSAGE, ".google.protobuf.Timestamp"), "update_time": (MESSAGE, ".google.protobuf.Timestamp"),
    "update_mask": (MESSAGE, ".google.protobuf.FieldMask"),
}
# These need no words of their own: in requests, and everywhere.
UNCOMMENTED_IN_REQUESTS, UNCOMMENTED = {"name", "request_id"}, {"call_id"}

# Field numbers of descriptor.proto, of which the paths of source locations are made.
FILE_MESSAGE, FILE_ENUM, FILE_SERVICE = 4, 5, 6
MESSAGE_FIELD, MESSAGE_NESTED, MESSAGE_ENUM, MESSAGE_ONEOF = 2, 3, 4, 8
ENUM_VALUE, SERVICE_METHOD = 2, 2


def compile_protos(folder: Path) -> pb.FileDescriptorSet:
    """Of all protos of our package in a folder, with comments and lines."""
    names = sorted(p.relative_to(folder).as_posix() for p in (folder / "holdfast").rglob("*.proto"))
    with tempfile.NamedTemporaryFile() as out:
        subprocess.run(["protoc", f"-I{folder}", "--include_source_info", f"--descriptor_set_out={out.name}", *names],
                       check=True)
        return pb.FileDescriptorSet.FromString(Path(out.name).read_bytes())


def without_sources(files: pb.FileDescriptorSet) -> bytes:
    for file in files.file:
        file.ClearField("source_code_info")
    return files.SerializeToString(deterministic=True)


class Places:
    """Lines and comments of one file, by path of the descriptor."""

    def __init__(self, file: pb.FileDescriptorProto):
        self.locations = {tuple(l.path): l for l in file.source_code_info.location}

    def line(self, path: tuple) -> int:
        return self.locations[path].span[0] + 1 if path and path in self.locations else 0

    def comment(self, path: tuple) -> str:
        location = self.locations.get(path)
        return (location.leading_comments + location.trailing_comments).strip() if location else ""


class Linter:
    """The names and comments of one file."""

    def __init__(self, file: pb.FileDescriptorProto):
        self.file, self.places, self.findings = file, Places(file), []
        self.used_types: dict[str, str] = {}  # request or response -> method

    def report(self, path: tuple, rule: str, message: str) -> None:
        self.findings.append(Finding(f"proto/{self.file.name}", self.places.line(path), rule, message))

    def check_name(self, path: tuple, rule: str, pattern: re.Pattern, name: str) -> None:
        if not pattern.fullmatch(name):
            self.report(path, rule, f"`{name}`")

    def run(self) -> list[Finding]:
        file = self.file
        if file.syntax != "proto3":
            self.report((), "syntax", "syntax is proto3")
        if not re.search(r"\.v[1-9][0-9]*$", file.package):
            self.report((2,), "package-version-suffix", f"`{file.package}` ends in no version such as .v1")
        folder = file.name.rpartition("/")[0]
        if folder != file.package.replace(".", "/"):
            self.report((2,), "package-directory-match", f"package {file.package} lies in {folder}/")
        self.check_name((), "file-lower-snake-case", SNAKE, file.name.rpartition("/")[2].removesuffix(".proto"))
        for i, message in enumerate(file.message_type):
            self.check_message((FILE_MESSAGE, i), message)
        for i, enum in enumerate(file.enum_type):
            self.check_enum((FILE_ENUM, i), enum)
        for i, service in enumerate(file.service):
            self.check_service((FILE_SERVICE, i), service)
        return self.findings

    def check_message(self, path: tuple, message: pb.DescriptorProto) -> None:
        if message.options.map_entry:
            return
        self.check_name(path, "message-pascal-case", PASCAL, message.name)
        for i, field in enumerate(message.field):
            self.check_field(path + (MESSAGE_FIELD, i), message, field)
        for i, oneof in enumerate(message.oneof_decl):
            if not oneof.name.startswith("_"):  # the compiler's own, for `optional`
                self.check_name(path + (MESSAGE_ONEOF, i), "oneof-lower-snake-case", SNAKE, oneof.name)
        for i, nested in enumerate(message.nested_type):
            self.check_message(path + (MESSAGE_NESTED, i), nested)
        for i, enum in enumerate(message.enum_type):
            self.check_enum(path + (MESSAGE_ENUM, i), enum)

    def check_field(self, path: tuple, message: pb.DescriptorProto, field: pb.FieldDescriptorProto) -> None:
        self.check_name(path, "field-lower-snake-case", SNAKE, field.name)
        kind, type_name = STANDARD_FIELDS.get(field.name, (field.type, field.type_name))
        if (field.type, field.type_name) != (kind, type_name):
            self.report(path, "standard-field-type", f"`{field.name}` has another type everywhere")
        standard = field.name in UNCOMMENTED or (message.name.endswith("Request") and
                                                 field.name in UNCOMMENTED_IN_REQUESTS)
        # A message or enum says what it is where it is declared.
        says_itself = field.type == MESSAGE and not field.type_name.startswith(".google.") or field.type == ENUM
        if not (standard or says_itself or self.places.comment(path)):
            self.report(path, "comment-field", f"{message.name}.{field.name}: what does it mean, in which unit?")

    def check_enum(self, path: tuple, enum: pb.EnumDescriptorProto) -> None:
        self.check_name(path, "enum-pascal-case", PASCAL, enum.name)
        if enum.options.allow_alias:
            self.report(path, "enum-no-allow-alias", enum.name)
        prefix = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", enum.name).upper() + "_"
        for i, value in enumerate(enum.value):
            at = path + (ENUM_VALUE, i)
            self.check_name(at, "enum-value-upper-snake-case", UPPER_SNAKE, value.name)
            if not value.name.startswith(prefix):
                self.report(at, "enum-value-prefix", f"`{value.name}` begins with {prefix}")
            if value.number == 0 and not value.name.endswith("_UNSPECIFIED"):
                self.report(at, "enum-zero-value-suffix", f"`{value.name}` ends in _UNSPECIFIED")

    def check_service(self, path: tuple, service: pb.ServiceDescriptorProto) -> None:
        self.check_name(path, "service-pascal-case", PASCAL, service.name)
        if not service.name.endswith("Service"):
            self.report(path, "service-suffix", f"`{service.name}` ends in Service")
        for i, method in enumerate(service.method):
            self.check_method(path + (SERVICE_METHOD, i), method)

    def check_method(self, path: tuple, method: pb.MethodDescriptorProto) -> None:
        self.check_name(path, "rpc-pascal-case", PASCAL, method.name)
        for full, suffix in ((method.input_type, "Request"), (method.output_type, "Response")):
            short = full.rpartition(".")[2]
            if short != method.name + suffix:
                self.report(path, f"rpc-{suffix.lower()}-standard-name", f"`{short}` is {method.name}{suffix}")
            if full in self.used_types:
                self.report(path, "rpc-request-response-unique", f"`{short}` is also of {self.used_types[full]}")
            self.used_types[full] = method.name


class Comparer:
    """What clients of `old` miss in `new`."""

    def __init__(self, old: pb.FileDescriptorProto, new: pb.FileDescriptorProto):
        self.old, self.new, self.places, self.findings = old, new, Places(new), []

    def report(self, path: tuple, rule: str, message: str) -> None:
        self.findings.append(Finding(f"proto/{self.new.name}", self.places.line(path), rule, message))

    def run(self) -> list[Finding]:
        if self.old.package != self.new.package:
            self.report((2,), "package-same", f"it was {self.old.package}")
        self.compare((), FILE_MESSAGE, self.old.message_type, self.new.message_type, "message", self.message)
        self.compare((), FILE_ENUM, self.old.enum_type, self.new.enum_type, "enum", self.enum)
        self.compare((), FILE_SERVICE, self.old.service, self.new.service, "service", self.service)
        return self.findings

    def compare(self, path: tuple, field: int, olds, news, what: str, go_on) -> None:
        """Pairs by name; what has gone is reported at its parent."""
        by_name = {n.name: (path + (field, i), n) for i, n in enumerate(news)}
        for old in olds:
            if old.name not in by_name:
                self.report(path, f"{what}-no-delete", f"{what} `{old.name}` is gone")
            else:
                go_on(by_name[old.name][0], old, by_name[old.name][1])

    def message(self, path: tuple, old: pb.DescriptorProto, new: pb.DescriptorProto) -> None:
        by_number = {f.number: (path + (MESSAGE_FIELD, i), f) for i, f in enumerate(new.field)}
        for field in old.field:
            if field.number in by_number:
                at, now = by_number[field.number]
                self.field(at, (old, field), (new, now))
            else:
                self.report(path, "field-no-delete", f"{new.name}: field {field.number} `{field.name}` is gone")
        kept = {n for r in new.reserved_range for n in range(r.start, r.end)}
        freed = [n for r in old.reserved_range for n in range(r.start, r.end) if n not in kept]
        freed += [n for n in old.reserved_name if n not in new.reserved_name]
        if freed:
            self.report(path, "reserved-no-delete", f"{new.name}: {freed} was reserved")
        self.compare(path, MESSAGE_NESTED, old.nested_type, new.nested_type, "message", self.message)
        self.compare(path, MESSAGE_ENUM, old.enum_type, new.enum_type, "enum", self.enum)

    def field(self, path: tuple, old: tuple, new: tuple) -> None:
        (old_message, was), (new_message, now) = old, new

        def oneof(message, field) -> str:
            return message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else ""

        if was.name != now.name:
            self.report(path, "field-same-name", f"field {was.number} was `{was.name}`")
        if (was.type, was.type_name) != (now.type, now.type_name):
            self.report(path, "field-same-type", f"`{now.name}` has another type")
        if (was.label, was.proto3_optional, oneof(old_message, was)) != (now.label, now.proto3_optional,
                                                                        oneof(new_message, now)):
            self.report(path, "field-same-cardinality", f"`{now.name}`: repeated, optional or its oneof has changed")

    def enum(self, path: tuple, old: pb.EnumDescriptorProto, new: pb.EnumDescriptorProto) -> None:
        by_number = {v.number: (path + (ENUM_VALUE, i), v.name) for i, v in enumerate(new.value)}
        for value in old.value:
            if value.number not in by_number:
                self.report(path, "enum-value-no-delete", f"`{value.name}` is gone")
            elif by_number[value.number][1] != value.name:
                self.report(by_number[value.number][0], "enum-value-same-name", f"{value.number} was `{value.name}`")

    def service(self, path: tuple, old: pb.ServiceDescriptorProto, new: pb.ServiceDescriptorProto) -> None:
        self.compare(path, SERVICE_METHOD, old.method, new.method, "rpc", self.method)

    def method(self, path: tuple, old: pb.MethodDescriptorProto, new: pb.MethodDescriptorProto) -> None:
        if (old.input_type, old.output_type) != (new.input_type, new.output_type):
            self.report(path, "rpc-same-types", f"{new.name}: another request or response")
        if (old.client_streaming, old.server_streaming) != (new.client_streaming, new.server_streaming):
            self.report(path, "rpc-same-streaming", f"{new.name}: `stream` has changed")


def compare_files(old: pb.FileDescriptorSet, new: pb.FileDescriptorSet) -> list[Finding]:
    by_name, findings = {f.name: f for f in new.file}, []
    for file in old.file:
        if file.name in by_name:
            findings += Comparer(file, by_name[file.name]).run()
        else:
            findings.append(Finding(RELEASED, 0, "file-no-delete", f"{file.name} is gone"))
    return findings


def check_against(files: pb.FileDescriptorSet, released: pb.FileDescriptorSet) -> list[Finding]:
    return [f for file in files.file for f in Linter(file).run()] + compare_files(released, files)


def check(root: Path) -> list[Finding]:
    released = pb.FileDescriptorSet.FromString((root / RELEASED).read_bytes())
    return check_against(compile_protos(root / "proto"), released)


def check_planted(root: Path) -> list[Finding]:
    """A planted tree holds the last release as protos, in released/."""
    return check_against(compile_protos(root / "proto"), compile_protos(root / "released"))


def main() -> int:
    if sys.argv[1:] == ["--renew"]:
        path = tree.ROOT / RELEASED
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(without_sources(compile_protos(tree.ROOT / "proto")))
        print(f"proto_test: {RELEASED} is of the protos as they are")
        return 0
    return tree.main_of("proto_test", check_planted if sys.argv[1:] == ["--self-test"] else check, __doc__)


if __name__ == "__main__":
    sys.exit(main())
