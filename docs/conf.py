"""The site: README and docs/ as they stand on GitHub, and a page for each public package.

`make site` builds it into build/site. The folder of the sources is the checkout itself, so that
every relative link means here what it means there.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
VERSION = ROOT / "src" / "adrpo" / "__init__.py"

project = "adrpo"
release = re.findall(r'__version__ = "(.+)"', VERSION.read_text(encoding="utf-8"))[0]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "tools.site"]

root_doc = "docs/index"
include_patterns = ["*.md", "docs/**.md"]
exclude_patterns = [
    *(".*", "**/.*", "build", "runs", "dist"),
    *(f"{folder}/**" for folder in ("benchmarks", "examples", "recipes", "src", "tests", "tools")),
]
nitpicky = False
show_warning_types = True

myst_heading_anchors = 4
myst_enable_extensions = ["html_image"]
myst_links_external_new_tab = False
# Words such as `run=0.1` in blocks of no language are no code of Python.
highlight_language = "text"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"adrpo {release}"
html_additional_pages = {"index": "to_index.html"}
templates_path = ["_templates"]
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}
