#!/usr/bin/env python3
"""An MCP server over standard streams that does what its argument says, mostly wrong.

    server.py MODE

One line of JSON a message. MODE is `modern`, `legacy` or `dual` for a server that behaves; the others are
in MODES, each with one fault. Uses nothing but the standard library.
"""

import json
import os
import signal
import sys
import time

TOOLS = [
    {
        "name": "echo",
        "description": "Returns its text",
        "inputSchema": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
        "annotations": {"readOnlyHint": True},
    },
    {"name": "append", "description": "Appends a line to a file", "inputSchema": {"type": "object"}},
    {"name": "world", "description": "What the server can see", "inputSchema": {"type": "object"}},
]


def write_raw(data):
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def send(message):
    write_raw(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")


def answer(request, result):
    send({"id": request["id"], "result": {"resultType": "complete", **result}})


def refuse(request, code, text, data=None):
    error = {"code": code, "message": text}
    if data is not None:
        error["data"] = data
    send({"id": request["id"], "error": error})


def text_of(text):
    return {"content": [{"type": "text", "text": text}]}


def world():
    """What an escape would be after: one fact a line."""
    facts = ["uid %d" % os.getuid()]
    facts += ["env " + name for name in sorted(os.environ)]
    facts += ["home " + str(sorted(os.listdir(os.environ["HOME"])))]
    with open("/proc/net/route") as routes:
        facts += ["routes %d" % (len(routes.readlines()) - 1)]
    facts += ["cwd " + os.getcwd()]
    return "\n".join(facts)


class Server:
    """A server that behaves."""

    era = "modern"

    def handle(self, message):
        handler = getattr(self, "on_" + message.get("method", "").replace("/", "_"), None)
        if handler is not None:
            handler(message)
        elif "id" in message and "method" in message:
            refuse(message, -32601, "Method not found")

    def is_modern(self, request):
        meta = request.get("params", {}).get("_meta", {})
        return "io.modelcontextprotocol/protocolVersion" in meta

    def on_server_discover(self, request):
        if self.era == "legacy":
            return refuse(request, -32601, "Method not found")
        answer(request, {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}})

    def on_initialize(self, request):
        if self.era == "modern":
            return refuse(request, -32601, "this server speaks 2026-07-28 only")
        answer(request, {
            "protocolVersion": "2025-06-18",
            "capabilities": {"tools": {"listChanged": True}},
            "serverInfo": {"name": "test", "version": "1"},
        })

    def on_tools_list(self, request):
        if self.era == "modern" and not self.is_modern(request):
            return refuse(request, -32602, "no _meta")
        answer(request, {"tools": TOOLS})

    def on_tools_call(self, request):
        name, arguments = request["params"]["name"], request["params"].get("arguments", {})
        if name == "echo":
            return answer(request, text_of(arguments["text"]))
        if name == "append":
            with open("calls", "a") as file:
                file.write("call\n")
            with open("calls") as file:
                return answer(request, text_of("%d lines" % len(file.readlines())))
        if name == "world":
            return answer(request, text_of(world()))
        refuse(request, -32602, "Unknown tool: " + name)

    def run(self):
        for line in sys.stdin:
            self.handle(json.loads(line))


class Legacy(Server):
    era = "legacy"


class Dual(Server):
    era = "dual"


class SilentFromTheStart(Server):
    def handle(self, message):
        pass


class SilentListing(Server):
    def on_tools_list(self, request):
        pass


class SilentCall(Server):
    def on_tools_call(self, request):
        pass


class DiesAtProbe(Legacy):
    def on_server_discover(self, request):
        sys.exit(1)


class DiesInCall(Server):
    def on_tools_call(self, request):
        print("about to die", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)


class DiesInTheMiddleOfALine(Server):
    def on_tools_call(self, request):
        write_raw(b'{"jsonrpc":"2.0","id":%d,"result":{"content":[' % request["id"])
        sys.exit(0)


class FloodsErrors(Server):
    """More than any pipe holds, before every answer."""

    def handle(self, message):
        for _ in range(256):
            sys.stderr.write("x" * 65535 + "\n")
        super().handle(message)


class FloodsOutput(Server):
    def on_tools_call(self, request):
        line = b'{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"%s"}}\n' % (b"x" * 1000)
        while True:
            write_raw(line * 1000)


class FloodsGarbage(Server):
    def on_tools_call(self, request):
        while True:
            write_raw(b"Listening on stdio...\n" * 1000)


class FloodsNewlines(Server):
    def on_tools_call(self, request):
        while True:
            write_raw(b"\n" * 1_000_000)


class HugeLine(Server):
    def on_tools_call(self, request):
        write_raw(b'{"jsonrpc":"2.0","id":%d,"result":{"content":[{"type":"text","text":"' % request["id"])
        for _ in range(20):
            write_raw(b"x" * (1 << 20))
        write_raw(b'"}]}}\n')


class AnswersAfterCancel(Server):
    asked = None

    def on_tools_call(self, request):
        if self.asked is None:
            self.asked = request
            return
        answer(request, text_of("prompt"))

    def on_notifications_cancelled(self, message):
        if message["params"]["requestId"] == self.asked["id"]:
            answer(self.asked, text_of("after cancel"))


class AnswersTwice(Server):
    def on_tools_call(self, request):
        super().on_tools_call(request)
        super().on_tools_call(request)


class WrongIds(Server):
    def on_tools_call(self, request):
        for wrong in (request["id"] + 1000, str(request["id"]), None, [request["id"]]):
            answer({"id": wrong}, text_of("not yours"))


class Garbles(Server):
    """Lines that are no messages, then the answer."""

    def on_tools_call(self, request):
        write_raw(b"\n\xff\xfe\x00\n{\n[]\nnull\n" + b"[" * 100_000 + b"\n")
        write_raw(b'{"jsonrpc":"2.0","id":%d,"result":{"content":[{"type":"text","text":"\xff"}]}}\n' % request["id"])
        super().on_tools_call(request)


class SlowStart(Server):
    def run(self):
        time.sleep(2.5)
        super().run()


class SlowLegacyStart(Legacy):
    def run(self):
        time.sleep(2.5)
        super().run()


class Paginated(Server):
    def on_tools_list(self, request):
        at = int(request["params"].get("cursor", "0"))
        page = {"tools": TOOLS[at:at + 1]}
        if at + 1 < len(TOOLS):
            page["nextCursor"] = str(at + 1)
        answer(request, page)


class CircularPages(Server):
    def on_tools_list(self, request):
        answer(request, {"tools": [], "nextCursor": "again"})


class NewerOnly(Server):
    def on_server_discover(self, request):
        refuse(request, -32022, "Unsupported protocol version",
               {"supported": ["2027-01-01"], "requested": "2026-07-28"})

    def on_initialize(self, request):
        answer(request, {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}})


class IgnoresTheEnd(Server):
    """Neither the end of its input nor SIGTERM ends it; its child is told to stay too."""

    def run(self):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if os.fork() == 0:
            os.setsid()
            time.sleep(1000)
        super().run()
        time.sleep(1000)


class DoesNotRead(Server):
    """Reads until it is ready, then never again."""

    def on_tools_list(self, request):
        super().on_tools_list(request)
        time.sleep(1000)


MODES = {
    "modern": Server,
    "legacy": Legacy,
    "dual": Dual,
    "silent": SilentFromTheStart,
    "silent_listing": SilentListing,
    "silent_call": SilentCall,
    "dies_at_probe": DiesAtProbe,
    "dies_in_call": DiesInCall,
    "dies_in_a_line": DiesInTheMiddleOfALine,
    "floods_errors": FloodsErrors,
    "floods_output": FloodsOutput,
    "floods_garbage": FloodsGarbage,
    "floods_newlines": FloodsNewlines,
    "huge_line": HugeLine,
    "answers_after_cancel": AnswersAfterCancel,
    "answers_twice": AnswersTwice,
    "wrong_ids": WrongIds,
    "garbles": Garbles,
    "slow_start": SlowStart,
    "slow_legacy_start": SlowLegacyStart,
    "paginated": Paginated,
    "circular_pages": CircularPages,
    "newer_only": NewerOnly,
    "ignores_the_end": IgnoresTheEnd,
    "does_not_read": DoesNotRead,
}

if __name__ == "__main__":
    MODES[sys.argv[1]]().run()
