"""``make audit``: asks a vulnerability service about every locked package, with pip-audit.

Vulnerabilities that docs/reference/known_flaws.md lists, with the reason why they stay, are known.
Exit code 0 if there are no others, or the service cannot be asked from here; 1 if there are.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
LOCKS = ("compatible.txt", "current.txt")
_SHORT = "uv.txt"  # of one package: whether there is anybody to ask
_KNOWN_IN = FOLDER.parent / "docs" / "reference" / "known_flaws.md"
_FLAW = re.compile(r"\b(?:CVE-\d{4}-\d+|GHSA(?:-\w{4}){3}|PYSEC-\d{4}-\d+)\b")
# In an environment of its own, which goes again; a lock needs no packages that only look at it.
_PIP_AUDIT = (
    *(str(FOLDER.parent / ".venv" / "bin" / "uv"), "tool", "run", "--quiet"),
    *("--python", sys.executable, "pip-audit", "--format", "json", "--progress-spinner", "off"),
    *("--disable-pip", "--require-hashes", "--requirement"),
)


def main() -> int:
    """Prints a line for each lock and each unknown vulnerability; returns the exit code."""
    known = set(_FLAW.findall(_KNOWN_IN.read_text(encoding="utf-8")))
    found = False
    if _ask(FOLDER / _SHORT) is None:
        print("Nothing was audited: pip-audit, or its vulnerability service, is out of reach here.")
        return 0
    for lock in LOCKS:
        packages = _ask(FOLDER / lock)
        if packages is None:
            print(f"{lock} was not audited: the vulnerability service stopped responding.")
            continue
        new = [flaw for flaw in flaws(packages) if not flaw[2] & known]
        for name, version, ids, fixed in new:
            advice = f"fixed in {fixed}" if fixed else "no fixed version yet"
            print(f"{lock}: {name} {version} has {', '.join(sorted(ids))}; {advice}.")
        asked = sum("skip_reason" not in package for package in packages)
        noun = "vulnerability" if len(new) == 1 else "vulnerabilities"
        print(f"{lock}: {len(new)} unknown {noun} in {asked} of {len(packages)} packages.")
        found = found or bool(new)
    return int(found)


def _ask(lock: Path) -> list[dict[str, Any]] | None:
    """What pip-audit says of each package; None if it cannot say anything of any."""
    done = subprocess.run([*_PIP_AUDIT, str(lock)], capture_output=True, text=True, check=False)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return None
    # It takes a service that knows no package at all for one that knows no vulnerability.
    return packages if any("skip_reason" not in package for package in packages) else None


def flaws(packages: list[dict[str, Any]]) -> list[tuple[str, str, set[str], str]]:
    """Name, version, all identifiers, and the versions that fix it, of each vulnerability."""
    return [
        (
            package["name"],
            package["version"],
            {flaw["id"], *flaw.get("aliases", [])},
            ", ".join(flaw.get("fix_versions", [])),
        )
        for package in packages
        for flaw in package.get("vulns", [])
    ]


if __name__ == "__main__":
    sys.exit(main())
