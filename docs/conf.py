"""Sphinx configuration. Sphinx, because the docstrings are in its markup, and it documents click commands."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import encoder_tools  # noqa: E402

project = "encoder-tools"
author = "the encoder-tools authors"
version = release = encoder_tools.__version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
    "sphinx_copybutton",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header", "misc.highlighting_failure"]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
# scikit-learn gives estimators these methods; their docstrings refer to its own glossary
autodoc_default_options = {"exclude-members": "set_fit_request, set_score_request, set_predict_request"}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
html_theme = "furo"
html_title = "encoder-tools"
html_static_path = ["_static"]
html_theme_options = {
    "source_repository": "https://github.com/encoder-tools/encoder-tools/",
    "source_branch": "main",
    "source_directory": "docs/",
}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
