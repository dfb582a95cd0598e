"""Builds the documentation: `sphinx-build -W -b html docs docs/_build`."""

from gymbag import __version__

project = "gymbag"
copyright = "the gymbag authors"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
# No intersphinx: the documentation must build without a network.

exclude_patterns = ["_build"]
# Lets pages link to each other's headings.
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "description"
# Types of what a docstring explains, not bare lists of all parameters.
autodoc_typehints_description_target = "documented_params"
# In docstrings, `names` are set as code, and link to what they name if it is documented.
default_role = "py:obj"
napoleon_google_docstring = True
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = f"gymbag {version}"
