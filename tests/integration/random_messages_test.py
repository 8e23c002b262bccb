"""Sends a daemon what no client should: messages of random fields, cut and flipped bytes, endless lengths, streams that are
opened and left, bytes that are no HTTP/2. It must answer all of it with a status, stay in order, and give back what it
took: memory, descriptors, threads. Usage: random_messages_test.py HOLDFAST WORK [--rounds N] [--seed N]
"""
import argparse
import collections
import pathlib
import random
import shutil
import socket as sockets
import time

import daemon_testing
from daemon_testing import NANO

SERVICES = ("session", "tool", "model", "store", "server")
# They would end the daemon, or fill the disk of whoever runs the test.
LEFT_OUT = {"StopServer", "BackupServer"}
# Of these no work of minutes may come; everything else is sent as it falls.
LEFT_EMPTY = {("CreateSessionRequest", "goal"), ("CreateSessionRequest", "message"), ("SetGoalRequest", "goal"),
              ("SendMessageRequest", "text"), ("GenerateRequest", "tokens_max")}
CALL_SECONDS = 3
MIB = 1 << 20


class Daemon:
    def __init__(self, process, socket: str):
        self.process, self.socket = process, socket

    def status(self, key: str) -> int:
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(key + ":"):
                return int(line.split()[1])
        raise AssertionError(key)

    def use(self) -> dict:
        return {"MiB": self.status("VmRSS") // 1024, "threads": self.status("Threads"),
                "descriptors": len(list(pathlib.Path(f"/proc/{self.process.pid}/fd").iterdir()))}


class Maker:
    """Random messages of a type, some of them well-formed."""

    def __init__(self, rng: random.Random):
        self.rng = rng

    def text(self, field: str) -> str:
        if field in ("name", "session", "sessions") and self.rng.random() < 0.5:
            return "sessions/soak"
        return self.rng.choice(["", "a", "soak", "sessions/", "sessions/none", "sessions/none", "sessions/../x", "\0", "ü" * 70, "x" * self.rng.randrange(5000),
                                "/nowhere/at/all", "{", "c1", "-1"])

    def value(self, field):
        rng, kinds = self.rng, field
        if field.cpp_type == kinds.CPPTYPE_MESSAGE:
            return None
        if field.cpp_type == kinds.CPPTYPE_STRING:
            if field.type == kinds.TYPE_BYTES:
                return rng.randbytes(rng.randrange(2000))
            return self.text(field.name)
        if field.cpp_type == kinds.CPPTYPE_BOOL:
            return rng.random() < 0.5
        if field.cpp_type in (kinds.CPPTYPE_DOUBLE, kinds.CPPTYPE_FLOAT):
            return rng.choice([0.0, -1.0, 0.5, 1e30, float("nan"), float("inf")])
        signed = field.cpp_type in (kinds.CPPTYPE_INT32, kinds.CPPTYPE_INT64, kinds.CPPTYPE_ENUM)
        wide = field.cpp_type in (kinds.CPPTYPE_INT64, kinds.CPPTYPE_UINT64)
        top = (1 << (64 if wide else 32) - signed) - 1
        return rng.choice([0, 1, 2, rng.randrange(300), top] + ([-1, -top - 1] if signed else []))

    def fill(self, message, depth: int = 0):
        for field in message.DESCRIPTOR.fields:
            if self.rng.random() < 0.4 or (message.DESCRIPTOR.name, field.name) in LEFT_EMPTY:
                continue
            if field.label == field.LABEL_REPEATED:
                for _ in range(self.rng.randrange(4)):
                    if field.cpp_type == field.CPPTYPE_MESSAGE:
                        self.fill(getattr(message, field.name).add(), depth + 1)
                    else:
                        getattr(message, field.name).append(self.value(field))
            elif field.cpp_type == field.CPPTYPE_MESSAGE:
                if depth < 5:
                    self.fill(getattr(message, field.name), depth + 1)
            else:
                setattr(message, field.name, self.value(field))
        return message

    def spoil(self, data: bytes) -> bytes:
        rng = self.rng
        how = rng.randrange(6)
        if how == 0:
            return rng.randbytes(rng.randrange(300))
        if how == 1 and data:
            return data[:rng.randrange(len(data))]
        if how == 2 and data:
            at = rng.randrange(len(data))
            return data[:at] + bytes([rng.randrange(256)]) + data[at + 1:]
        if how == 3:  # a field that says it has 2 GiB, or more than any
            return data + b"\x0a" + rng.choice([b"\xff\xff\xff\xff\x07", b"\xff" * 9 + b"\x01"]) + b"x"
        return data


class Soak:
    def __init__(self, daemon: Daemon, rng: random.Random):
        import grpc
        from google.protobuf import symbol_database
        self.grpc, self.daemon, self.rng, self.maker = grpc, daemon, rng, Maker(rng)
        self.codes, self.methods = collections.Counter(), []
        messages = symbol_database.Default()
        for stem in SERVICES:
            module = __import__(f"holdfast.v1.{stem}_service_pb2", fromlist=["DESCRIPTOR"])
            for service in module.DESCRIPTOR.services_by_name.values():
                for method in service.methods:
                    if method.name not in LEFT_OUT:
                        make = messages.GetPrototype(method.input_type)
                        self.methods.append((f"/{service.full_name}/{method.name}", make))
        self.streams_in = {"ImportSession", "ServeTools"}

    def channel(self):
        return self.grpc.insecure_channel(f"unix:{self.daemon.socket}", options=[("grpc.use_local_subchannel_pool", 1)])

    def requests(self, make):
        for _ in range(self.rng.randrange(1, 4)):
            yield self.maker.spoil(self.maker.fill(make()).SerializeToString())

    def one_call(self, channel) -> None:
        """Every method is called as one that streams both ways: on the wire they are all the same."""
        path, make = self.rng.choice(self.methods)
        many = path.rpartition("/")[2] in self.streams_in or self.rng.random() < 0.05
        requests = list(self.requests(make))[:None if many else 1]
        call = channel.stream_stream(path)(iter(requests), timeout=CALL_SECONDS)
        try:
            for _, _response in zip(range(self.rng.randrange(1, 20)), call):
                pass
            call.cancel()
        except self.grpc.RpcError:
            pass
        self.codes[call.code().name] += 1

    def open_and_leave(self, channel, count: int) -> None:
        """Streams that wait for something, cancelled at once."""
        calls = []
        for _ in range(count):
            path = self.rng.choice(["/holdfast.v1.SessionService/WatchSession", "/holdfast.v1.ToolService/ServeTools",
                                    "/holdfast.v1.ModelService/Generate"])
            calls.append(channel.stream_stream(path)(iter([b"\x0a\x0dsessions/soak"]), timeout=CALL_SECONDS))
        for call in calls:
            call.cancel()

    def too_large(self, channel) -> None:
        """More than the server takes in one message."""
        call = channel.unary_unary("/holdfast.v1.SessionService/SendMessage")
        try:
            call(b"\x1a\xff\xff\xff\x0f" + bytes(32 * MIB), timeout=30)
            raise AssertionError("it took 32 MiB")
        except self.grpc.RpcError as error:
            assert error.code() == self.grpc.StatusCode.RESOURCE_EXHAUSTED, error

    def no_http(self) -> None:
        with sockets.socket(sockets.AF_UNIX) as connection:
            connection.connect(self.daemon.socket)
            begin = self.rng.choice([b"", b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"])
            try:
                connection.sendall(begin + self.rng.randbytes(self.rng.randrange(4000)))
            except OSError:
                pass

    def round(self, calls: int) -> None:
        with self.channel() as channel:
            for _ in range(calls):
                self.one_call(channel)
            self.open_and_leave(channel, calls)
            self.too_large(channel)
        for _ in range(calls // 4):
            self.no_http()

    def check_in_order(self) -> None:
        """It answers, and the session that is asked for is there."""
        from holdfast.v1 import server_service_pb2, server_service_pb2_grpc, session_service_pb2, session_service_pb2_grpc
        with self.channel() as channel:
            server_service_pb2_grpc.ServerServiceStub(channel).GetServerInfo(
                server_service_pb2.GetServerInfoRequest(), timeout=30)
            got = session_service_pb2_grpc.SessionServiceStub(channel).GetSession(
                session_service_pb2.GetSessionRequest(name="sessions/soak"), timeout=30)
            assert got.session.name == "sessions/soak"
        assert self.daemon.process.poll() is None


def settled(daemon: Daemon, bound: dict, seconds: int = 30) -> dict:
    """What the daemon uses once it is within a bound, or at last: what was left is given back in its time."""
    end = time.monotonic() + seconds
    while True:
        use = daemon.use()
        if all(use[key] <= bound[key] for key in use) or time.monotonic() > end:
            return use
        time.sleep(0.5)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("holdfast")
    parser.add_argument("work", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    shutil.rmtree(arguments.work, ignore_errors=True)
    arguments.work.mkdir(parents=True)
    daemon_testing.make_stubs(arguments.work / "stubs")
    command = [arguments.holdfast, "serve", "--data", arguments.work / "data", "--model", NANO, "--threads", "1"]
    with daemon_testing.daemon(command, arguments.work / "log") as (process, socket):
        daemon = Daemon(process, socket)
        soak = Soak(daemon, random.Random(arguments.seed))
        from holdfast.v1 import session_service_pb2, session_service_pb2_grpc
        with soak.channel() as channel:
            session_service_pb2_grpc.SessionServiceStub(channel).CreateSession(
                session_service_pb2.CreateSessionRequest(session_id="soak"), timeout=60)
        soak.round(200)  # everything is there once that is made on first use
        soak.check_in_order()
        before = settled(daemon, {"MiB": 0, "threads": 0, "descriptors": 0}, 5)
        for _ in range(arguments.rounds):
            soak.round(200)
            soak.check_in_order()
        bound = {"MiB": before["MiB"] + 64, "threads": before["threads"] + 8, "descriptors": before["descriptors"] + 32}
        after = settled(daemon, bound)
        print(f"seed {arguments.seed}, {arguments.rounds} rounds: {dict(soak.codes)}\nbefore {before}, after {after}")
        assert all(after[key] <= bound[key] for key in bound), "it keeps what it should give back"
        assert {"OK", "INVALID_ARGUMENT", "NOT_FOUND"} <= set(soak.codes), "the messages reached nothing"


if __name__ == "__main__":
    main()
