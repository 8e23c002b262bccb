"""The teacher's episodes: every skill does what it was asked and nothing else. Needs no torch.

    python3 -m model.nano.tests teacher
"""

import json
import random
import re
import unittest

from model.nano import names, standin
from model.nano.teacher import Teacher


class FixedSources:
    """A tiny package in place of the installed headers."""
    words = names.Words(["alpha", "beta", "gamma", "delta", "omega"], ["Qu", "ist", "orn"])
    packages = {"p": [(f"p/file{i}.h", f"/* license text {i} */\nint counter{i};\nvoid reset{i}(int counter{i});\n")
                      for i in range(8)]}


def play(skill: str, seed: int) -> Teacher:
    teacher = Teacher(random.Random(seed), FixedSources, skill)
    teacher.play()
    return teacher


def calls(teacher: Teacher) -> list[tuple[str, dict]]:
    return [(c["function"]["name"], json.loads(c["function"]["arguments"])) for m in teacher.messages
            for c in m.get("tool_calls", [])]


class Skills(unittest.TestCase):
    def test_a_find_ends_with_the_place_of_the_definition(self):
        found = 0
        for seed in range(200):
            teacher = play("find", seed)
            name, answer = teacher.messages[0]["content"].split("`")[1], teacher.messages[-1]["content"]
            if answer.startswith("No "):
                continue
            path, line, *value = answer.split(":", 2)
            text = teacher.tools.files[path].split("\n")[int(line) - 1]
            self.assertTrue(text.startswith(f"#define {name} "))
            if value:
                self.assertEqual(text, f"#define {name}{value[0]}")
            found += 1
        self.assertGreater(found, 150)

    def test_a_rename_leaves_no_old_name_and_changes_nothing_else(self):
        renames = 0
        for seed in range(200):
            teacher = play("check", seed)
            old, new = teacher.messages[0]["content"].split("`")[1::2][:2]
            edited = [a["path"] for name, a in calls(teacher) if name == "edit"]
            self.assertEqual(len(edited), len(set(edited)))
            before = teacher.fresh().files
            for path, text in teacher.tools.files.items():
                self.assertIsNone(standin.whole_word(old).search(text))
                self.assertEqual(text, standin.whole_word(old).sub(new, before[path]))
                self.assertEqual(text != before[path], path in edited)
            renames += bool(edited)
        self.assertGreater(renames, 120)

    def test_a_value_is_set_in_one_line_whatever_happens(self):
        troubles = 0
        for seed in range(300):
            teacher = play("set", seed)
            answer = teacher.messages[-1]["content"]
            if answer.startswith("No hits"):
                self.assertEqual(teacher.tools.files, teacher.fresh().files)
                continue
            path, line = answer.split(": ", 1)
            before, after = teacher.fresh().files, teacher.tools.files
            self.assertEqual({p for p in after if after[p] != before[p]}, {path})
            pairs = list(zip(before[path].split("\n"), after[path].split("\n"), strict=True))
            self.assertEqual([b for a, b in pairs if a != b], [line])
            troubles += len(calls(teacher)) > 2
        self.assertGreater(troubles, 30)

    def test_a_report_names_what_failed(self):
        for seed in range(200):
            teacher = play("report", seed)
            output, answer = teacher.messages[-2]["content"], teacher.messages[-1]["content"]
            code = int(re.search(r"exit (\d+)\n\Z", output)[1])
            if code == 0:
                self.assertEqual(answer, "All pass.")
            elif answer.startswith("Failed with"):
                self.assertEqual(answer, f"Failed with exit {code}.")
            else:
                failed = answer.split(": ", 1)[1].split(", ")
                lines = [line for line in output.split("\n") if re.search("FAIL|not ok|Failed", line)]
                self.assertEqual(len(lines), len(failed))
                for name, line in zip(failed, lines):  # in the order of the output
                    self.assertIn(name, line)

    def test_a_needle_is_answered_from_the_first_message(self):
        for seed in range(50):
            messages = play("needle", seed).messages
            facts = dict(line.split(":", 1) for line in messages[0]["content"].rstrip("\n").split("\n"))
            for question, answer in zip(messages[4::2], messages[5::2]):
                self.assertEqual(facts[question["content"].strip("`?")], answer["content"])

    def test_replaying_the_calls_gives_the_same_results_and_tree(self):
        for skill in ("find", "rename", "check", "set", "report"):
            for seed in range(60):
                teacher = play(skill, seed)
                world = teacher.fresh()
                results = [world.call(*call) for call in calls(teacher)]
                self.assertEqual(results, [m["content"] for m in teacher.messages if m["role"] == "tool"])
                self.assertEqual(world.tree_hash(), teacher.tools.tree_hash())


if __name__ == "__main__":
    unittest.main()
