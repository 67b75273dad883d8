"""Which part of adrpo may import which, and what importing it loads."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "src" / "adrpo"

# The house from the ground up: a part may import what stands on a lower floor.
FLOORS = (
    {"core", "errors", "memory", "metrics"},
    {"embedded"},
    {"data"},
    {"config"},
    {"coefficient", "runs"},
    {"rewards"},
    {"report"},
    {"publishing"},
    {"evaluation"},
    {"comparison", "flow", "llm"},
    {"audio"},
    {"cli"},
    {"__main__"},
)
# And of that, what it may import. ``report`` reads a run's files, ``comparison`` those of many
# runs, ``publishing`` those of a finished one, whose ``final/`` gets its card where ``evaluation``
# writes it: none knows a domain. A domain (flow, llm, audio)
# ties rewards and measures to a model.
FOUNDATION = {"core", "config", "data", "runs", "embedded", "errors", "metrics"}
DOMAIN = FOUNDATION | {"coefficient", "rewards", "evaluation", "memory"}
ALLOWED = {
    "core": set[str](),
    "errors": set[str](),
    "memory": set[str](),
    "metrics": set[str](),
    "config": {"errors", "data", "metrics"},
    "coefficient": {"config", "core"},
    "embedded": {"errors"},
    "data": {"errors", "embedded"},
    "runs": {"config", "data", "errors", "memory", "metrics"},
    "rewards": FOUNDATION,
    "evaluation": FOUNDATION | {"rewards", "publishing"},
    "flow": DOMAIN,
    "llm": DOMAIN,
    "audio": DOMAIN | {"llm"},
    "report": {"runs", "errors", "metrics"},
    "comparison": {"config", "errors", "evaluation", "metrics", "report", "runs"},
    "publishing": {"data", "errors", "metrics", "report", "runs"},
    "cli": DOMAIN | {"report", "comparison", "publishing"},
    "__main__": {"cli"},
}
# The wings of flow: the path knows no model, and models and methods don't know each other.
WINGS = {
    "path": set[str](),
    "models": {"path", "prompt_columns", "originals"},
    "methods": {"path"},
    "training": {
        "path", "models", "methods", "distances", "drawing", "facts", "run_prompts",
        "prompt_columns", "originals",
    },
    "memory": {"path", "models", "training", "prompt_columns"},
}  # fmt: skip
# A package with a door is a domain, also one that is not named above.
for door in ROOT.glob("*/domain.py"):
    if door.parent.name not in ALLOWED:
        ALLOWED[door.parent.name] = DOMAIN
        next(floor for floor in FLOORS if "flow" in floor).add(door.parent.name)
# One version number, kept in adrpo/__init__.py, and the exception it re-exports.
FROM_THE_TOP = {"cli": {"AdrpoError", "__version__"}, "runs": {"__version__"}}

MODULES = {
    ".".join(("adrpo", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(
        ".__init__"
    ): path
    for path in sorted(ROOT.rglob("*.py"))
}


def part_of(module: str) -> str:
    """``adrpo.flow.path.convention`` -> ``flow``; ``adrpo`` itself -> the empty string."""
    return module.split(".")[1] if "." in module else ""


def imports(module: str, *, at_import_time: bool) -> set[str]:
    """Modules of adrpo that ``module`` names in import statements, and ``adrpo:name`` for a name
    taken from the package's top; with ``at_import_time`` only those that importing it runs."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    found: set[str] = set()
    for node in _statements(tree) if at_import_time else ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: relative import"
            base = node.module or ""
            for alias in node.names:
                deeper = f"{base}.{alias.name}"
                if deeper in MODULES:
                    found.add(deeper)
                else:
                    found.add(f"adrpo:{alias.name}" if base == "adrpo" else base)
    return {name for name in found if name.split(".")[0].split(":")[0] == "adrpo"} - {module}


def _statements(node: ast.AST) -> list[ast.AST]:
    """Statements that run on import: no function bodies, nothing under TYPE_CHECKING."""
    found: list[ast.AST] = []
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        found += [child, *_statements(child)]
    return found


@pytest.mark.parametrize("module", [name for name in MODULES if part_of(name)])
def test_imports_follow_the_arrow(module: str) -> None:
    part = part_of(module)
    assert part in ALLOWED, f"{part}: a new part of adrpo needs its place in ALLOWED"
    for name in imports(module, at_import_time=False):
        if name.startswith("adrpo:"):
            assert name.removeprefix("adrpo:") in FROM_THE_TOP.get(part, set()), (module, name)
        elif name == "adrpo":
            assert part in FROM_THE_TOP, f"{module} imports the package's top"
        else:
            assert part_of(name) in ALLOWED[part] | {part}, f"{module} imports {name}"


def test_a_part_stands_on_what_it_imports() -> None:
    floor = {part: number for number, parts in enumerate(FLOORS) for part in parts}
    assert floor.keys() == ALLOWED.keys()
    for part, allowed in ALLOWED.items():
        assert all(floor[other] < floor[part] for other in allowed), (part, allowed)


@pytest.mark.parametrize("wing", list(WINGS))
def test_the_wings_of_flow_follow_theirs(wing: str) -> None:
    for module in MODULES:
        if not f"{module}.".startswith(f"adrpo.flow.{wing}."):
            continue
        for name in imports(module, at_import_time=False):
            if part_of(name) == "flow":
                assert name.split(".")[2:3] != [], f"{module} imports the top of adrpo.flow"
                assert name.split(".")[2] in WINGS[wing] | {wing}, f"{module} imports {name}"


def test_modules_import_each_other_without_a_circle() -> None:
    edges = {
        name: {other for other in imports(name, at_import_time=True) if other in MODULES}
        for name in MODULES
    }
    # Take away, again and again, what needs nothing that is left: a circle never goes.
    left = dict(edges)
    while free := [name for name, needs in left.items() if not needs & left.keys()]:
        for name in free:
            del left[name]
    assert not left, f"these modules import each other: {sorted(left)}"


@pytest.mark.parametrize(
    "statement", ["import adrpo", "import adrpo.flow", "import adrpo.llm", "import adrpo.cli"]
)
def test_light_imports_load_nothing_heavy(statement: str) -> None:
    heavy = ["diffusers", "transformers", "trl", "datasets", "peft", "matplotlib", "accelerate"]
    if statement in ("import adrpo", "import adrpo.cli"):
        heavy.append("torch")
    if "cli" not in statement:
        heavy += ["pydantic", "typer", "rich"]
    code = f"import sys; {statement}; print(*[m for m in {heavy} if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == []


def test_help_loads_no_torch(tmp_path: Path) -> None:
    """A library's import that the command line's modules bring along would be seconds of every
    call."""
    code = (
        "import sys, contextlib; sys.argv = ['adrpo', '--help']\n"
        "from adrpo.cli import main\n"
        "with contextlib.suppress(SystemExit): main()\n"
        "print('loaded:', *[m for m in ('torch', 'numpy', 'adrpo.config') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert "Usage" in result.stdout and result.stdout.splitlines()[-1] == "loaded:"
