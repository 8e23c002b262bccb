"""Tool data, stand-in dispatcher, episodes and the prompt prefix. Needs no torch; HOLDFAST names the binary.

    HOLDFAST=build/dev/cli/holdfast python3 -m model.nano.tests data
"""

import json
import os
import subprocess
import tempfile
import unittest
from pathlib import Path

from model.nano import dispatcher, standin

ROOT = Path(__file__).resolve().parents[3]
NANO = ROOT / "model" / "nano"
HOLDFAST = os.environ.get("HOLDFAST", str(ROOT / "build" / "dev" / "cli" / "holdfast"))


def messages_of_prefix() -> dict:
    profile = standin.load_profile()
    tools = [{"type": "function", "function": standin.load_tool(t)["function"]} for t in profile["tools"]]
    return {"messages": [{"role": "system", "content": profile["system"], "tools": tools}], "thinking_mode": "chat"}


class ToolData(unittest.TestCase):
    def test_file_names_say_tool_and_version(self):
        for path in sorted(standin.DATA.glob("*@*.json")):
            tool = json.loads(path.read_text())
            self.assertEqual(tool["tool"], path.stem)
            self.assertEqual(tool["function"]["name"], path.stem.split("@")[0])
            self.assertTrue(set(tool) == {"tool", "function", "effect", "result", "limits"}, path)

    def test_templates_fill_once(self):
        self.assertEqual(standin.fill("{a}:{b}\n", a="{b}", b=2), "{b}:2\n")


class Dispatcher(unittest.TestCase):
    FILES = {"b.h": "int foo;\nfoo2 = a_foo;\n\t foo(foo);\n", "a.h": "\n" + "x " * 60 + "foo\n", "c.h": "nothing\n"}

    def test_grep_lists_whole_words_by_file_and_cuts_long_lines(self):
        self.assertEqual(standin.StandIn(self.FILES).call("grep", {"pattern": "foo"}),
                         "a.h\n2:" + ("x " * 60)[:80] + "\nb.h\n1:int foo;\n3:foo(foo);\n")

    def test_grep_says_what_it_left_out(self):
        files = {f"f{i:02}.h": "foo\n" * 5 for i in range(12)}
        out = standin.StandIn(files).call("grep", {"pattern": "foo"})
        self.assertIn("f09.h\n1:foo\n2:foo\n3:foo\n2 more\n2 more files\n", out)

    def test_grep_without_hits_and_with_a_bad_pattern(self):
        self.assertEqual(standin.StandIn(self.FILES).call("grep", {"pattern": "absent"}), "no hits\n")
        self.assertEqual(standin.StandIn(self.FILES).call("grep", {"pattern": "("}), "bad pattern\n")

    def test_edit_replaces_whole_words(self):
        tools = standin.StandIn(self.FILES)
        self.assertEqual(tools.call("edit", {"path": "b.h", "old": "foo", "new": "bar"}), "3 replaced\n")
        self.assertEqual(tools.files["b.h"], "int bar;\nfoo2 = a_foo;\n\t bar(bar);\n")
        self.assertEqual(tools.call("edit", {"path": "b.h", "old": "foo", "new": "bar"}), "no match\n")
        self.assertEqual(tools.call("edit", {"path": "z.h", "old": "foo", "new": "bar"}), "no such file\n")

    def test_read_shows_lines_and_the_end(self):
        tools = standin.StandIn({"a": "".join(f" l{i}\n" for i in range(1, 31))})
        self.assertTrue(tools.call("read", {"path": "a", "line": 1}).endswith("20: l20\n"))
        self.assertTrue(tools.call("read", {"path": "a", "line": 25}).endswith("30: l30\nend of file\n"))
        self.assertEqual(tools.call("read", {"path": "a", "line": 99}), "end of file\n")

    def test_bash_ends_with_the_exit_code(self):
        tools = standin.StandIn({}, {"true": ("", 0), "echo": ("hi", 3)})
        self.assertEqual(tools.call("bash", {"command": "true"}), "exit 0\n")
        self.assertEqual(tools.call("bash", {"command": "echo"}), "hi\nexit 3\n")


def has_real_tools() -> bool:
    """Whether the binary is there and a sandbox can be had on this machine."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            result = subprocess.run([HOLDFAST, "tools", "run", "--tree", folder, "--profile", "nano"], text=True,
                                    input='{"op": "hash"}\n', capture_output=True)
        except OSError:
            return False
        return result.returncode == 0 and "hash" in result.stdout


class RealTools(unittest.TestCase):
    def test_an_episode_has_the_same_bytes_with_the_real_tools(self):
        if not has_real_tools():
            self.skipTest("no holdfast tools run here")
        files, texts = {"src/b.h": "int foo;\n\tfoo(a_foo);\n", "a.h": "foo\n"}, {}
        calls = [("grep", {"pattern": "foo"}), ("edit", {"path": "src/b.h", "old": "foo", "new": "bar_2"}),
                 ("grep", {"pattern": "foo"}), ("read", {"path": "src/b.h", "line": 1}),
                 ("edit", {"path": "a.h", "old": "", "new": "x"}), ("edit", {"path": "c.h", "old": "foo", "new": "x"})]
        with dispatcher.Dispatcher(files, HOLDFAST) as real:
            for name, tools in (("real", real), ("stand-in", standin.StandIn(files))):
                texts[name] = [tools.tree_hash(), *(tools.call(*call) for call in calls), tools.tree_hash()]
        self.assertEqual(texts["real"], texts["stand-in"])
        self.assertNotEqual(texts["real"][0], texts["real"][-1])

    def test_only_worlds_of_files_alone_are_covered(self):
        self.assertTrue(dispatcher.covers(({}, {None: ("ok", 0)}, {})))
        self.assertTrue(dispatcher.covers(({}, None, {})))
        self.assertFalse(dispatcher.covers(({}, {"make": ("ok", 0)}, {})))
        self.assertFalse(dispatcher.covers(({}, None, {1: standin.Event(unknown=True)})))


@unittest.skipUnless(Path(HOLDFAST).exists(), "no holdfast binary")
class Prefix(unittest.TestCase):
    def test_the_prompt_prefix_is_the_one_trained_on(self):
        result = subprocess.run([HOLDFAST, "model", "render"], input=json.dumps(messages_of_prefix()) + "\n", text=True,
                                check=True, capture_output=True)
        prompt = json.loads(result.stdout)["prompt"]
        self.assertEqual(prompt, "<｜begin▁of▁sentence｜>" + (NANO / "prompt.txt").read_text())

    def test_a_name_is_the_same_tokens_wherever_it_stands(self):
        texts = ["zq_Foo12Bar", " zq_Foo12Bar", "`zq_Foo12Bar`", '">zq_Foo12Bar</', "(zq_Foo12Bar);", "*zq_Foo12Bar"]
        feed = "".join(json.dumps({"text": t}) + "\n" for t in texts)
        result = subprocess.run([HOLDFAST, "model", "tokenize", "--tokenizer", str(NANO / "tokenizer.json")], input=feed,
                                text=True, check=True, capture_output=True)
        rows = [json.loads(line)["ids"] for line in result.stdout.splitlines()]
        for text, row in zip(texts, rows):
            self.assertTrue(any(row[i:i + len(rows[0])] == rows[0] for i in range(len(row))), text)


if __name__ == "__main__":
    unittest.main()
