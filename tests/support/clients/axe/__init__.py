"""axe-core: what a page in Chromium has that keeps people from reading it."""

from __future__ import annotations

import functools
import json
import tempfile
from pathlib import Path

from tests.support.chromium import Page
from tests.support.clients import _js

_HERE = Path(__file__).parent
_RUN = """axe.run(document, {resultTypes: ["violations"]}).then(results =>
  results.violations.flatMap(rule => rule.nodes.map(node =>
    `${rule.id} (${rule.help}): ${node.html.slice(0, 160)} ${node.any.map(c => c.message)[0] || ""}`
  )))"""


@functools.cache
def source() -> str:
    """The script.

    Raises:
      Unavailable: npm or the package cannot be had.
    """
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        _js.prepare(_HERE, work)
        return (work / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")


def violations(page: Page) -> list[str]:
    """What axe-core finds on the page that is open, all its rules on; a line for each element."""
    page.call("Runtime.evaluate", expression=source())
    answer = page.call("Runtime.evaluate", expression=_RUN, awaitPromise=True, returnByValue=True)
    if "exceptionDetails" in answer:
        raise RuntimeError(f"axe-core failed: {json.dumps(answer['exceptionDetails'])[:2000]}")
    found: list[str] = answer["result"]["value"]
    return found
