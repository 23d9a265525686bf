"""Says which heavy libraries a module loads: ``python -m tests.support.programs.loaded MODULE``.

With arguments, also calls the module's `main` with them. The last line is a JSON list.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import sys

HEAVY = ("keras", "kfp", "tensorflow", "tfx")


def main() -> None:
    name, *arguments = sys.argv[1:]
    module = importlib.import_module(name)
    if arguments:
        with contextlib.suppress(SystemExit):
            module.main(arguments)
    print(json.dumps([library for library in HEAVY if library in sys.modules]))


if __name__ == "__main__":
    main()
