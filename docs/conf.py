"""Configuration of Sphinx: `sphinx-build -W -n docs site` builds the guide without a network."""

import os
import sys
from importlib.metadata import version as installed_version
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
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
    "generated_pages",
    "option_docs",
]
exclude_patterns = ["_*", "**/.ipynb_checkpoints"]

# Pages. An anchor of a section is the one that GitHub gives it.
myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 4
smartquotes_action = "D"  # dashes only; options are code
nb_execution_mode = "off"  # the tests run the notebooks

# The API reference. Docstrings are written as Markdown: `name` is code.
default_role = "code"
add_module_names = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"
napoleon_numpy_docstring = False
# Types without a page of their own: those of other packages, whose sites are not asked, and inner ones.
nitpick_ignore_regex = [("py:.*", ".*")]

# The theme with its own files only: no fonts, scripts or pictures of other sites.
html_theme = "furo"
html_title = "Headway"
html_static_path = ["_static"]
html_css_files = ["guide.css"]
html_show_sourcelink = False
html_copy_source = False
