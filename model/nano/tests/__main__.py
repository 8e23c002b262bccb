"""Runs nano's tests, or those of the parts named; a part whose needs are not installed is skipped, aloud.

    /usr/bin/python3 -m model.nano.tests [data|teacher|swaps|parts|fused|golden|checkpoint ...]
"""

import importlib
import sys
import unittest


def main() -> int:
    suite = unittest.TestSuite()
    for part in sys.argv[1:] or ["data", "teacher", "swaps", "parts", "fused", "golden", "checkpoint"]:
        try:
            module = importlib.import_module(f"model.nano.tests.{part}_test")
        except unittest.SkipTest as reason:
            print(f"{part}: skipped: {reason}")
            continue
        suite.addTests(unittest.defaultTestLoader.loadTestsFromModule(module))
    return 0 if unittest.TextTestRunner().run(suite).wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
