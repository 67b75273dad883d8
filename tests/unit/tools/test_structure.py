"""The counts of how far a change reaches, on sources and pages that are known."""

import json
from collections import Counter
from pathlib import Path

import pytest

from tools.structure.__main__ import to_markdown
from tools.structure.branches import places
from tools.structure.pages import PAGES, apply, needed, read_page, touched

ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "benchmarks" / "results" / "structure"

SOURCE = """
from adrpo.config import FlowConfig
DOORS = {"flow": "adrpo.flow.domain", "llm": "adrpo.llm.domain"}
BOTH = ("flow", "llm")
NAMES = ("flow",), {"llm": 1}  # one domain's own: no listing
def run(config, domain):
    if domain == "llm" or config.domain not in ("flow", "audio"):
        from adrpo.llm.run import LanguageRun
        from adrpo.llm import config
    if isinstance(config, (FlowConfig, int)):
        return DOORS[config.domain]
    match domain:
        case "audio":
            pass
    return config.domain == domain, isinstance(config, int), "flow"
def typed(config: "FlowConfig"):
    if TYPE_CHECKING:
        from adrpo.flow import FlowTrainer
"""

PAGE = """# Add a thing

```python
# src/adrpo/things/new.py
x = 1
```

```diff
--- a/src/adrpo/known.py
+++ b/src/adrpo/known.py
@@
 THINGS = {
+    "new": "adrpo.things.new:x",
 }
@@
-old = 1
+new = 1

 last = 1
```

```bash
adrpo train new
```

```python
print("an example, and no file")
```
"""


def test_each_kind_of_place_is_found_where_it_is_and_only_there(tmp_path: Path):
    (tmp_path / "cli").mkdir()
    (tmp_path / "cli" / "train.py").write_text(SOURCE)
    (tmp_path / "llm").mkdir()
    (tmp_path / "llm" / "run.py").write_text(SOURCE)  # a domain's own package
    (tmp_path / "page.html.j2").write_text('{% if domain == "llm" %}\n{{ domain }}\n{% if x %}\n')
    found = [(place.kind, place.line, place.file) for place in places(tmp_path)]
    assert found == [
        ("comparison", 7, "cli/train.py"),
        ("comparison", 7, "cli/train.py"),
        ("comparison", 13, "cli/train.py"),
        ("import", 8, "cli/train.py"),
        ("instance", 10, "cli/train.py"),
        ("listing", 3, "cli/train.py"),
        ("listing", 4, "cli/train.py"),
        ("template", 1, "page.html.j2"),
    ]


def test_a_page_is_read_as_its_changes(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    changes = read_page(page)
    assert [change.kind for change in changes] == ["create", "edit", "run"]
    assert touched([*changes, changes[0]]) == ["src/adrpo/things/new.py", "src/adrpo/known.py"]
    known = tmp_path / "src/adrpo/known.py"
    known.parent.mkdir(parents=True)
    known.write_text("THINGS = {\n}\nold = 1\n\nlast = 1\n")
    for change in changes[:2]:
        apply(change, tmp_path)
    assert (tmp_path / "src/adrpo/things/new.py").read_text() == "x = 1\n"
    assert known.read_text() == (
        'THINGS = {\n    "new": "adrpo.things.new:x",\n}\nnew = 1\n\nlast = 1\n'
    )
    # What the page says holds no longer.
    with pytest.raises(ValueError, match=r"known\.py: expected once, found 0 times"):
        apply(changes[1], tmp_path)
    with pytest.raises(ValueError, match=r"new\.py: expected a new file"):
        apply(changes[0], tmp_path)


def test_a_diff_without_one_file_is_refused(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text("```diff\n+one line\n```\n")
    with pytest.raises(ValueError, match="a diff of one file"):
        read_page(page)


def test_a_change_reaches_no_further_than_it_may():
    """What a stranger edits by hand to add a part, and where the house asks for a domain."""
    assert {kind: len(needed(kind, ROOT)) for kind in PAGES} == {
        "method": 4,
        "family": 3,
        "reward": 3,
        "metric": 2,
        "domain": 2,
    }
    asked = places(ROOT / "src" / "adrpo")
    assert len([place for place in asked if place.kind != "import"]) <= 3, asked
    assert [place for place in asked if place.kind == "import"] == []


def test_the_committed_table_promises_no_more_than_holds_today():
    counted = json.loads((RESULTS / "summary.json").read_text(encoding="utf-8"))
    assert to_markdown(counted) == (RESULTS / "table.md").read_text(encoding="utf-8")
    after = {kind: len(files) for kind, files in counted["after"]["files"].items()}
    assert after == {kind: len(needed(kind, ROOT)) for kind in PAGES}
    now = Counter(place.kind for place in places(ROOT / "src" / "adrpo"))
    assert now <= Counter({kind: len(found) for kind, found in counted["after"]["places"].items()})
