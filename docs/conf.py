"""Sphinx settings."""

import doctest
import os
import socket
from importlib.metadata import version as installed_version

project = "keras-rnnkit"
author = "The keras-rnnkit authors"
copyright = "The keras-rnnkit authors"
version = release = installed_version("keras-rnnkit")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.doctest",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "keras-rnnkit"
html_static_path = ["_static"]
html_css_files = ["custom.css"]

autodoc_default_options = {"members": True, "inherited-members": False}
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autosummary_generate = True
autosummary_ignore_module_all = False
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_custom_sections = [("Call arguments", "params_style")]
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
doctest_global_setup = "import numpy as np\nimport keras\nimport keras_rnnkit as rk"
default_role = "code"


def reachable(host: str) -> bool:
    """Whether an inventory can be fetched, so that an offline build passes."""
    try:
        socket.create_connection((host, 443), timeout=2).close()
    except OSError:
        return False
    return True


INVENTORIES = {
    "python": "https://docs.python.org/3",
    "numpy": "https://numpy.org/doc/stable",
}
intersphinx_mapping = {
    name: (address, None)
    for name, address in INVENTORIES.items()
    if "RNNKIT_OFFLINE" not in os.environ and reachable(address.split("/")[2])
}
doctest_default_flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
