"""Sphinx: the pages of this folder, which read as plain markdown too, and the API from the docstrings.

``pip install ".[docs]"``, then ``sphinx-build -W -b html docs build/docs``. Nothing is fetched from the network.
"""

import contextlib
import io
import os

from docutils import nodes
from docutils.parsers.rst import Directive

import fastxent
from fastxent.cli import main

project = "fastxent"
author = "The fastxent developers"
project_copyright = author
version = release = fastxent.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "numpydoc"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["Thumbs.db", ".DS_Store"]

# links between the pages are those that a forge follows: pages by file name, headings by its slugs
myst_heading_anchors = 3

# docstrings name what they speak of in single backticks
default_role = "py:obj"
autodoc_mock_imports = ["dask", "distributed"]  # an extra; its functions' docstrings want nothing of it
autodoc_typehints = "none"  # the docstrings say it, with shapes
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

html_theme = "furo"
html_title = f"fastxent {version}"
html_copy_source = False
html_show_copyright = False


class Help(Directive):
    """``.. fastxent-help:: eval``: what ``fastxent eval --help`` prints."""

    required_arguments = 0
    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The text, as it stands."""
        os.environ["COLUMNS"] = "100"
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            main([*self.arguments, "--help"])
        return [nodes.literal_block(text=printed.getvalue(), language="none")]


def setup(app):
    """Add what is our own."""
    app.add_directive("fastxent-help", Help)
    return {"parallel_read_safe": True}
