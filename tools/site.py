"""Extension of Sphinx for the site: navigation, links out of it, docstrings, what lacks a page.

The navigation is the lists of docs/index.md, section by section; a page of docs/ that no list names
comes at the end of the section of its folder.
"""

import ast
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.pycode import ModuleAnalyzer
from sphinx.transforms import SphinxTransform
from sphinx.util import logging

from adrpo.cli import app as cli

INDEX = "docs/index"
API = "docs/reference/api/"
COMMANDS = "docs/reference/commands"
SECTION = re.compile(r"^## +(.+?) *$", flags=re.M)
LINK = re.compile(r"\[([^\]]+)\]\(([^()\s#]+)\.md\)")
LITERAL = re.compile(r"(``.+?``|`[^`]+`|(?<!\w)\*\w+\*(?!\w))", flags=re.S)
MARK = re.compile(r"((?<!\\)[|*]|(?<=\w)_(?=\W|$))")
COLON = "\ue000"
"""A character of no language, for a while in the place of a colon."""
NO_PAGE = frozenset({"adrpo.cli", "adrpo.core", "adrpo.embedded"})
"""Packages that no program of a user's imports, and one whose names are those of adrpo."""

log = logging.getLogger(__name__)


def navigation(text: str, pages: list[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Caption of each section of docs/index.md, and its pages with the words of their links.

    Args:
        text: the page, whose sections list links.
        pages: the names of all pages below docs/, without ending, as ``docs/use/llm``.

    Yields:
        A page that no link leads to comes last in the section of its folder, without words.
    """
    _, *parts = SECTION.split(text)
    sections = [
        (caption, {_below_root(page): words for words, page in LINK.findall(body)})
        for caption, body in zip(parts[::2], parts[1::2], strict=True)
    ]
    named = {page for _, listed in sections for page in listed}
    for caption, listed in sections:
        folders = {Path(page).parent for page in listed} - {Path(".")}
        more = [page for page in pages if page not in named and Path(page).parent in folders]
        named.update(more)
        yield caption, listed | dict.fromkeys(more, "")


def _below_root(link: str) -> str:
    """A link of docs/index.md as a path from the top of the checkout, without ending."""
    return link.removeprefix("../") if link.startswith("../") else f"docs/{link}"


def add_navigation(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put the navigation behind the text of docs/index.md."""
    if docname != INDEX:
        return
    pages = sorted(name for name in app.env.found_docs if name.startswith("docs/"))
    for caption, listed in navigation(source[0], [name for name in pages if name != INDEX]):
        entries = "\n".join(f"{w} </{page}>" if w else f"/{page}" for page, w in listed.items())
        source[0] += f"\n\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{entries}\n```\n"


class LinksOut(SphinxTransform):
    """Links into the checkout, past the pages of the site: a text becomes a download, and of a
    folder, which the site has not, stay the words with its place."""

    default_priority = 500

    def apply(self, **kwargs: Any) -> None:
        for node in list(self.document.findall(addnodes.pending_xref)):
            if node.get("reftype") != "myst" or node["reftarget"] in self.env.found_docs:
                continue
            top = Path(self.env.srcdir)
            place = top / f"{node['reftarget']}.md"  # a page by its name
            if not place.is_file():
                place = (top / node["refdoc"]).parent / node["reftarget"]
            if place.is_file():
                name = f"/{place.resolve().relative_to(top.resolve())}"
                node.replace_self(_download(name, node))
            elif place.is_dir():
                name = str(place.resolve().relative_to(top.resolve()))
                node.replace_self(
                    nodes.abbreviation("", "", *node.children, explanation=f"{name} (checkout)")
                )


def _download(name: str, link: nodes.Element) -> nodes.Element:
    kept = {"refdoc": link["refdoc"], "refexplicit": True, "refdomain": "", "reftype": "download"}
    return addnodes.download_reference("", "", *link.children, reftarget=name, **kept)


def add_constants(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put the public constants of a package behind the rest of its page: autodoc takes those alone
    whose text stands in the package's own file."""
    if not docname.startswith(API):
        return
    last = docname.removeprefix(API)
    package = last if last == "adrpo" else f"adrpo.{last}"
    module = importlib.import_module(package)
    here = ModuleAnalyzer.for_module(package).find_attr_docs()
    for name in module.__all__:
        value = getattr(module, name)
        elsewhere = ("", name) not in here and not name.startswith("_")
        if elsewhere and not isinstance(value, type) and not inspect.isroutine(value):
            line = f".. autodata:: {package}.{name}\n   :no-value:"
            source[0] += f"\n```{{eval-rst}}\n{line}\n```\n"


def add_commands(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put the help of every command behind the page of the command line."""
    if docname == COMMANDS:
        for name, text in helps(typer.main.get_command(cli), "adrpo"):
            source[0] += f"\n## {name}\n\n```\n{text}\n```\n"


def helps(command: Any, name: str) -> Iterator[tuple[str, str]]:
    """Name and help of ``command`` and of all below it, in plain text."""
    command.rich_markup_mode = None
    with typer.Context(command, info_name=name, max_content_width=90) as context:
        yield name, command.get_help(context)
    for below in getattr(command, "commands", {}).values():
        yield from helps(below, f"{name} {below.name}")


def text_of_constant(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Give a constant that a package takes from a module of its the text that stands there, in the
    place of that of its type."""
    if what == "data" and (text := _text_at_home(*name.rpartition(".")[::2])) is not None:
        lines[:] = text


def _text_at_home(package: str, name: str) -> list[str] | None:
    """The lines under the assignment of ``name`` in the module that ``package`` has it from; None
    where it has it from none."""
    tree = ast.parse(ModuleAnalyzer.for_module(package).code)
    for statement in tree.body:
        if isinstance(statement, ast.ImportFrom) and statement.module:
            if name in (alias.name for alias in statement.names):
                home = ModuleAnalyzer.for_module(statement.module)
                return home.find_attr_docs().get(("", name), [])
    return None


def keep_colons(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Hide the colons of an attribute's text from napoleon, which takes what stands before one for
    a type; ``escape`` gives them back."""
    if what in ("attribute", "data"):
        lines[:] = [line.replace(":", COLON) for line in lines]


def short_signature(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: Any, returned: Any
) -> Any:
    """The keys of a section are on the page of settings, with their meaning."""
    return ("(**keys)", None) if hasattr(obj, "model_fields") else None


def skip_of_pydantic(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> Any:
    """Leave out how pydantic checks a section."""
    return True if name == "model_config" else None


def escape(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Take the signs of formulas for what they are: |v - u|, *, and names that end in _."""
    lines[:] = escaped("\n".join(lines).replace(COLON, ":")).split("\n")


def escaped(text: str) -> str:
    """``text`` of a docstring with what reStructuredText would read as marks escaped, and with its
    indented formulas as they stand; literals, directives and examples stay."""
    blocks: list[str] = []
    in_fields = False
    for block in text.split("\n\n"):
        in_fields = block.startswith(":") or (in_fields and block.startswith(" "))
        if ">>> " in block or block.lstrip().startswith(".. "):
            blocks.append(block)
        elif block.startswith("    ") and not in_fields:
            blocks += ["::", block]
        else:
            parts = LITERAL.split(block)
            parts[::2] = [MARK.sub(r"\\\1", part) for part in parts[::2]]
            blocks.append("".join(parts))
    return "\n\n".join(blocks)


def public_names() -> Iterator[str]:
    """Every name that adrpo or one of its packages lists in ``__all__``, with its package."""
    import adrpo

    packages = [adrpo.__name__]
    packages += [f"adrpo.{found.name}" for found in pkgutil.iter_modules(adrpo.__path__)]
    for package in sorted(set(packages) - NO_PAGE):
        module = importlib.import_module(package)
        yield from (f"{package}.{name}" for name in getattr(module, "__all__", ()))


def check_names(app: Sphinx, env: BuildEnvironment) -> None:
    """Warn of each public name that stands on no page, by none of its names."""
    documented = env.domaindata["py"]["objects"]
    for name in public_names():
        package, _, last = name.rpartition(".")
        value = getattr(importlib.import_module(package), last)
        home = f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', '')}"
        if name not in documented and home not in documented and last != "__version__":
            log.warning("public name without a page: %s", name, type="adrpo", subtype="names")


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("source-read", add_navigation)
    app.add_transform(LinksOut)
    app.connect("source-read", add_constants)
    app.connect("source-read", add_commands)
    app.connect("autodoc-process-docstring", text_of_constant)
    app.connect("autodoc-process-docstring", keep_colons, priority=499)
    app.connect("autodoc-process-docstring", escape, priority=501)
    app.connect("autodoc-process-signature", short_signature)
    app.connect("autodoc-skip-member", skip_of_pydantic)
    app.connect("env-check-consistency", check_names)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
