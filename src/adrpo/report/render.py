"""Pages out of templates and the one style sheet, in one self-contained file."""

from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

STYLE = "report/style.css"


def render(template: str, context: dict[str, Any]) -> str:
    """The page of a ``template`` of the package, such as "report/page.html.j2".

    Text of the ``context`` arrives as text, whatever it holds. Templates extend
    report/base.html.j2, which has the style sheet.
    """
    environment = Environment(
        loader=FunctionLoader(_read),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = Markup(_read(STYLE))  # of this package, and so no foreign text
    return environment.get_template(template).render({**context, "style": style})


def _read(name: str) -> str:
    return resources.files("adrpo").joinpath(name).read_text(encoding="utf-8")
