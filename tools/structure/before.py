"""Lists of the files that a new part took at commit 129dfa9, told by parts that were there.

``before.json`` holds, for each kind, an example, how files name it (a regular expression), and the
files that were edited or created by hand for it: sources, recipe, tests and documents, without what
a command writes (settings.md), and for the domain without its own package.
"""

import json
import re
from pathlib import Path
from typing import Any

COMMIT = "129dfa9"
PARTS: dict[str, dict[str, Any]] = json.loads(
    Path(__file__).with_suffix(".json").read_text(encoding="utf-8")
)
"""Kind of a part -> its example, pattern and files."""


def check(root: Path) -> None:
    """Raise ValueError where a listed file is missing below ``root``, or does not name its part."""
    for kind, part in PARTS.items():
        for file in part["files"]:
            path = root / file
            named = path.is_file() and re.search(part["pattern"], path.read_text(encoding="utf-8"))
            if not named:
                raise ValueError(f"{kind}: expected {file} at {COMMIT} to name {part['example']}")
