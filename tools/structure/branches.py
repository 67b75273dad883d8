"""Places where code outside a domain's package asks which domain it has, or names one.

Counted are the places that whoever adds a domain has to read, and most of the time to edit:

    comparison   a comparison with a domain's name:   config.domain == "llm"
    instance     a test of a configuration's type:    isinstance(config, LanguageConfig)
    listing      a table with an entry a domain:      {"flow": ..., "llm": ...}, ("flow", "llm")
    template     a comparison in a page's template:   {% if domain == "llm" %}
    import       of a domain's package:               from adrpo.llm.run import LanguageRun

A look-up in a table is none: the table is. Several imports in one function are one place.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DOMAINS = ("flow", "llm", "audio")
CONFIGURATIONS = ("FlowConfig", "LanguageConfig", "AudioConfig")
TEMPLATE = re.compile(rf"{{%[^%]*\bdomain\b[^%]*['\"](?:{'|'.join(DOMAINS)})['\"]")


@dataclass(frozen=True, kw_only=True, order=True)
class Place:
    """One place: ``kind`` is one of those above, ``file`` relative to src/adrpo."""

    kind: str
    file: str
    line: int
    text: str


def places(package: Path) -> list[Place]:
    """All places in ``package``, which is a src/adrpo, outside the packages of the domains."""
    found: list[Place] = []
    for path in sorted(package.rglob("*")):
        file = path.relative_to(package).as_posix()
        if file.split("/")[0] in DOMAINS:
            continue
        if path.suffix == ".py":
            text = path.read_text(encoding="utf-8")
            found += _of_module(file, ast.parse(text))
        elif path.suffix == ".j2":
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                if TEMPLATE.search(line):
                    found.append(Place(kind="template", file=file, line=number, text=line.strip()))
    return sorted(found)


def _of_module(file: str, tree: ast.Module) -> list[Place]:
    compared = {
        id(side)
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare)
        for side in node.comparators
    }
    found = [
        Place(kind=kind, file=file, line=node.lineno, text=ast.unparse(node).split("\n")[0])
        for node in ast.walk(tree)
        if isinstance(node, ast.expr | ast.pattern) and id(node) not in compared
        if (kind := _kind(node)) is not None
    ]
    for scope, imported in _imports(tree):
        text = ", ".join(dict.fromkeys(node.module or "" for node in imported))
        found.append(
            Place(kind="import", file=file, line=imported[0].lineno, text=f"{scope}: {text}")
        )
    return found


def _kind(node: ast.expr | ast.pattern) -> str | None:
    match node:
        case ast.Compare(left=left, comparators=others):
            named = any(_is_domain(inner) for side in (left, *others) for inner in ast.walk(side))
            return "comparison" if named else None
        case ast.MatchValue(value=value):
            return "comparison" if _is_domain(value) else None
        case ast.MatchClass(cls=form):
            return "instance" if ast.unparse(form) in CONFIGURATIONS else None
        case ast.Call(func=ast.Name(id="isinstance"), args=[_, form]):
            named = any(ast.unparse(inner) in CONFIGURATIONS for inner in ast.walk(form))
            return "instance" if named else None
        case ast.Dict(keys=keys):
            return "listing" if sum(map(_is_key, keys)) > 1 else None
        case ast.Tuple(elts=items) | ast.List(elts=items) | ast.Set(elts=items):
            return "listing" if sum(map(_is_domain, items)) > 1 else None
        case _:
            return None


def _is_key(key: ast.expr | None) -> bool:
    return key is not None and (_is_domain(key) or ast.unparse(key) in CONFIGURATIONS)


def _is_domain(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value in DOMAINS


def _imports(tree: ast.Module) -> Iterator[tuple[str, list[ast.ImportFrom]]]:
    """Name of a scope and its imports of a domain's package, in it and in no inner function."""
    functions = [
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    for scope in (tree, *functions):
        imported = [
            node
            for node in _own(scope)
            if isinstance(node, ast.ImportFrom)
            and (node.module or "").startswith(tuple(f"adrpo.{domain}" for domain in DOMAINS))
        ]
        if imported:
            yield getattr(scope, "name", "module"), imported


def _own(scope: ast.AST) -> Iterator[ast.AST]:
    """Nodes that run: none of an inner function, none for type checkers alone."""
    for child in ast.iter_child_nodes(scope):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _own(child)
