"""Sphinx: the pages of pytest_vdsotime/docs as HTML; `make docs` builds them."""

project = "pytest-vdsotime"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "index"
html_theme = "alabaster"
html_theme_options = {"page_width": "1240px", "body_max_width": "none", "fixed_sidebar": True}
html_show_copyright = False

# Pages link to each other's headings as GitHub names them.
myst_heading_anchors = 3
# What stands in single backquotes in docstrings.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = True
