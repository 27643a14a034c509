"""How the pages are built: ``make docs``."""

from __future__ import annotations

from typing import Any

from go_services_core import __version__

project = "go_services"
author = "the go_services authors"
project_copyright = "the go_services authors, MIT license"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence", "deflist"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_class_signature = "mixed"
napoleon_numpy_docstring = False
napoleon_use_rtype = False
python_use_unqualified_type_names = True
add_module_names = False
maximum_signature_line_length = 100

html_theme = "furo"
html_title = f"go_services {version}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_copy_source = False
html_show_sphinx = False
pygments_style = "tango"
pygments_dark_style = "monokai"


def readable_defaults(
    app: Any, what: str, name: str, obj: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """attrs has no text for a default that a factory makes."""
    return (signature and signature.replace("= NOTHING", "= ...").replace("=NOTHING", "=..."), returns)


def setup(app: Any) -> None:
    app.connect("autodoc-process-signature", readable_defaults)
