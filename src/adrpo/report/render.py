"""Pages out of templates, the one style sheet and the one script, in one self-contained file."""

import base64
import hashlib
from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

STYLE = "report/style.css"
SCRIPT = "report/page.js"
POLICY = (
    "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; "
    "script-src 'sha256-{digest}'"
)
"""The policy of a page: no text of a run can load or run anything, and the page's own script, known
by its digest, is the only one."""


LIVE = "; connect-src 'self'"


def render(template: str, context: dict[str, Any], *, version: str = "") -> str:
    """The page of a ``template`` of the package, such as "report/page.html.j2".

    Text of the ``context`` arrives as text, whatever it holds. Templates extend
    report/base.html.j2, which has the style sheet and the script. A ``version`` makes it a page
    that asks its server for the next one.
    """
    environment = Environment(
        loader=FunctionLoader(_read),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = _read(SCRIPT)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    own = {
        "style": Markup(_read(STYLE)),  # of this package, and so no foreign text
        "script": Markup(script),
        "policy": POLICY.format(digest=digest) + (LIVE if version else ""),
        "version": version,
    }
    return environment.get_template(template).render({"sections": (), **context, **own})


def _read(name: str) -> str:
    return resources.files("adrpo").joinpath(name).read_text(encoding="utf-8")
