"""Configuration of Sphinx: `sphinx-build -W -n docs site` builds the guide without a network."""

import logging
import sys
from importlib.metadata import version as installed_version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = "Headway"
author = "The Headway maintainers"
copyright = author
release = version = installed_version("headway")

extensions = [
    "myst_nb",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
]
exclude_patterns = ["_*", "**/.ipynb_checkpoints"]

# Pages. An anchor of a section is the one that GitHub gives it.
myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 4
nb_execution_mode = "off"  # the tests run the notebooks

# The theme with its own files only: no fonts, scripts or pictures of other sites.
html_theme = "furo"
html_title = "Headway"
html_static_path = ["_static"]
html_css_files = ["guide.css"]
html_show_sourcelink = False
html_copy_source = False

# Entries of the index for pages that are not written yet.
logging.getLogger("sphinx.sphinx.directives.other").addFilter(lambda record: "glob pattern" not in str(record.msg))
