"""Whole episodes, decoded freely: the model's own tokens are kept, its calls are run, the outcome is checked.

    /usr/bin/python3 -m model.nano.evaluate STATE --skill find --count 200 --holdfast BIN
    /usr/bin/python3 -m model.nano.evaluate DIR --skill find --count 50 --holdfast BIN --engine

STATE is a training state: PyTorch decodes, in the numerics of training. DIR is an exported checkpoint: PyTorch decodes
in the numerics of the C++ engine, or with --engine `holdfast model generate` does. Decoding is greedy and, so far, not
constrained. Tools are the stand-in's, on a tree in memory; with --tools real the dispatcher's, in its sandbox, where an
episode needs no more than files. An episode is solved when the tree has the hash that it has after the teacher's
episode and the last answer is the teacher's, byte for byte.
"""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

import torch

from model.nano import checkpoint, dispatcher, episodes, quantise, train
from model.nano.tokenizer import Tokenizer

TURNS_MAX, TOKENS_MAX = 12, 400  # of an episode, of a turn


class TorchDecoder:
    """Greedy, the whole context again for every token; a teacher's continuation is tried first, in one pass."""

    def __init__(self, net):
        self.net = net

    @torch.no_grad()
    def best(self, ids: list[int]) -> list[int]:
        """The likeliest token after each of the given ones."""
        return self.net.logits(self.net.states(self.net.streams(torch.tensor([ids]))))[0].argmax(-1).tolist()

    def turn(self, ids: list[int], hoped: list[int], end: int) -> list[int]:
        best = self.best(ids + hoped)[len(ids) - 1:]
        out = []
        for wanted, got in zip(hoped, best):
            out.append(got)
            if got != wanted:
                break
        while (not out or out[-1] != end) and len(out) < TOKENS_MAX:
            out.append(self.best(ids + out)[-1])
        return out


class EngineDecoder:
    """`holdfast model generate`, a process for each turn."""

    def __init__(self, holdfast: str, directory: Path):
        self.command = [holdfast, "model", "generate", str(directory), "--temperature", "0", "--threads", "1",
                        "--max-tokens", str(TOKENS_MAX)]

    def turn(self, ids: list[int], hoped: list[int], end: int) -> list[int]:
        prompt = ",".join(map(str, ids))
        result = subprocess.run([*self.command, "--prompt-ids", prompt], check=True, capture_output=True, text=True)
        written = [int(i) for i in result.stdout.split()]
        return written + [end] if len(written) < TOKENS_MAX else written


def parse_calls(text: str) -> list[tuple[str, dict]] | None:
    """The calls of a turn; None when what looks like calls is not well formed."""
    calls = []
    for name, body in re.findall(r'<｜DSML｜invoke name="([^"]*)">\n(.*?)</｜DSML｜invoke>\n', text, re.DOTALL):
        arguments = {}
        for key, is_string, value in re.findall(
                r'<｜DSML｜parameter name="([^"]*)" string="(true|false)">(.*?)</｜DSML｜parameter>\n', body, re.DOTALL):
            try:
                arguments[key] = value if is_string == "true" else json.loads(value)
            except json.JSONDecodeError:
                return None
        calls.append((name, arguments))
    return calls if calls or "｜DSML｜" not in text else None


def run_calls(tools, calls) -> list[str] | None:
    """Their results; None when a tool or an argument is not one of the profile's."""
    for name, arguments in calls:
        if name not in tools.tools or set(arguments) != set(tools.tools[name]["function"]["parameters"]["required"]):
            return None
    return [tools.call(name, arguments) for name, arguments in calls]


class Judge:
    """real_tools: the binary whose tools are called, where the episode's world is files alone; else the stand-in's."""

    def __init__(self, decoder, holdfast: str, tokenizer: Tokenizer, real_tools: str | None = None):
        self.decoder, self.holdfast, self.tokenizer = decoder, holdfast, tokenizer
        self.real_tools, self.with_real_tools = real_tools, 0
        self.end = tokenizer.added["<｜end▁of▁sentence｜>"]

    def results_ids(self, calls, results) -> list[int]:
        """What the chat format puts between a turn with calls and the next turn."""
        listed = [{"id": str(i), "type": "function", "function": {"name": n, "arguments": json.dumps(a)}}
                  for i, (n, a) in enumerate(calls)]
        messages = [{"role": "user", "content": ""}, {"role": "assistant", "content": "", "tool_calls": listed}]
        messages += [{"role": "tool", "tool_call_id": str(i), "content": r} for i, r in enumerate(results)]
        ids, = episodes.render([messages], self.holdfast, train.TOKENIZER)
        return ids[len(ids) - ids[::-1].index(self.end):]

    def solved(self, teacher, transcript: list[int], mask: list[int]) -> bool:
        """transcript: the teacher's episode in ids, mask as of episodes.model_mask. Episodes with one request only."""
        if self.real_tools and dispatcher.covers(teacher.started):
            self.with_real_tools += 1
            with dispatcher.Dispatcher(teacher.started[0], self.real_tools) as tools:
                return self._solved(teacher, transcript, mask, tools)
        return self._solved(teacher, transcript, mask, teacher.fresh())

    def _solved(self, teacher, transcript, mask, tools) -> bool:
        turns = [t for t in range(1, len(mask)) if mask[t] and not mask[t - 1]]
        ids = transcript[:turns[0]]
        for number in range(TURNS_MAX):
            hoped = []
            if number < len(turns) and ids == transcript[:turns[number]]:
                hoped = transcript[turns[number]:transcript.index(self.end, turns[number]) + 1]
            written = self.decoder.turn(ids, hoped, self.end)
            text = self.tokenizer.decode(written[:-1])
            calls = parse_calls(text)
            if written[-1] != self.end or calls is None:
                return False
            if not calls:
                return text == teacher.messages[-1]["content"] and tools.tree_hash() == teacher.tools.tree_hash()
            results = run_calls(tools, calls)
            if results is None:
                return False
            ids = ids + written + self.results_ids(calls, results)
        return False


def load(path: Path):
    """A training state or an exported checkpoint, ready to decode."""
    if path.is_dir():
        net = checkpoint.load_net(path, quantise.Numerics.native())
        net.numerics.weights = False  # dequantised already
        return net.eval()
    trainer = train.Trainer.load(path, bf16=True)
    stage = train.stage_of(trainer.step)
    trainer.set_numerics(stage)
    trainer.settle()
    if stage.get("quantised"):
        for weight, rounding in trainer.net.roundings():
            weight.data = rounding(weight.data)
    return trainer.net.eval()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--skill", default="find")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1000000)
    parser.add_argument("--holdfast", default="build/dev/cli/holdfast")
    parser.add_argument("--engine", action="store_true", help="decode with holdfast model generate")
    parser.add_argument("--tools", choices=["standin", "real"], default="standin", help="real: holdfast tools run")
    parser.add_argument("--show", type=int, default=0, help="print this many of the episodes that were not solved")
    args = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = Tokenizer(train.TOKENIZER)
    decoder = EngineDecoder(args.holdfast, args.model) if args.engine else TorchDecoder(load(args.model))
    judge = Judge(decoder, args.holdfast, tokenizer, args.holdfast if args.tools == "real" else None)
    marks = episodes.Marks(train.TOKENIZER)
    teachers = episodes.play(args.skill, args.count, args.seed, "eval", episodes.Sources("eval"))
    rendered = episodes.render([t.messages for t in teachers], args.holdfast, train.TOKENIZER)
    solved = [judge.solved(t, ids, episodes.model_mask(ids, marks)) for t, ids in zip(teachers, rendered)]
    print(f"{args.skill}: {sum(solved)} of {len(solved)} solved" +
          (f", {judge.with_real_tools} with the real tools" if judge.real_tools else ""))
    for teacher in [t for t, good in zip(teachers, solved) if not good][:args.show]:
        print(json.dumps(teacher.messages, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
