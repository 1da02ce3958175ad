"""Sphinx settings."""

import doctest
import inspect
import os
import socket
import sys
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import keras

import keras_rnnkit as rk

sys.path.insert(0, str(Path(__file__).parent))

project = "keras-rnnkit"
author = "The keras-rnnkit authors"
copyright = "The keras-rnnkit authors"
version = release = installed_version("keras-rnnkit")

extensions = [
    "matplotlib.sphinxext.plot_directive",
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.doctest",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx-mathjax-offline",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
    "sphinxcontrib.bibtex",
]
exclude_patterns = [
    "_build",
    "gallery/*.ipynb",
    "**/sg_execution_times.rst",
    "sg_execution_times.rst",
]
templates_path = ["_templates"]
highlight_language = "text"
html_theme = "furo"
html_title = "keras-rnnkit"
html_static_path = ["_static"]
html_css_files = ["custom.css"]

autodoc_default_options = {"inherited-members": False}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_type_aliases = {
    name: name
    for name in ("Activation", "Constraint", "DType", "Initializer", "Regularizer", "Seed")
}
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
autosummary_generate = True
# What a class page shows besides the class; an inherited method appears where it is named.
autosummary_context = {
    "shown": {
        "Bidirectional": "reset_state",
        "Cell": "project, step, gates, leak_and_drive, dropped, get_initial_state, unpack",
        "Diagnosis": "ok, needs_attention, __getitem__, to_dict, to_json",
        "GRU": "reset_state",
        "GRUCell": "unpack",
        "GloVeEmbedding": "vocabulary, build, call, embeddings, set_weights, enable_lora, "
        "quantize, get_config, from_config",
        "GradientFlow": "__getitem__",
        "LSTM": "reset_state",
        "LSTMCell": "unpack",
        "PathReport": "__getitem__",
        "RNN": "reset_state",
        "SimpleRNN": "reset_state",
        "SimpleRNNCell": "unpack",
    },
    "hidden": {"Split": "train, val, test"},
}
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_custom_sections = [("Call arguments", "params_style")]
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
bibtex_bibfiles = ["references.bib"]
bibtex_reference_style = "author_year"
plot_html_show_formats = False
plot_html_show_source_link = False
plot_include_source = False
plot_formats = [("png", 144)]
plot_pre_code = "import numpy as np\nimport keras\nimport keras_rnnkit as rk"
doctest_global_setup = "import numpy as np\nimport keras\nimport keras_rnnkit as rk"
doctest_default_flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
default_role = "code"
# Named by annotations, and not to be found where its inventory cannot be fetched.
nitpick_ignore_regex = [
    ("py:class", r"(collections|datetime|keras|numpy|os)\..*"),
    ("py:class", r"keras_rnnkit\.(\w+\.)+\w+|[A-Z]\w+"),
]


sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"\.py$",
    "ignore_pattern": r"command_line\.py",
    "abort_on_example_error": True,
    "reset_argv": "short_run.arguments",
    "backreferences_dir": "api/generated/used",
    "doc_module": ("keras_rnnkit",),
    "inspect_global_variables": False,
    "download_all_examples": False,
    "show_signature": False,
    "min_reported_time": 10**6,
    "matplotlib_animations": False,
    "remove_config_comments": True,
}


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


KERAS = "https://keras.io/api/"
KERAS_PAGES = {
    **{
        f"keras.layers.{name}": f"layers/recurrent_layers/{page}/"
        for name, page in {
            "LSTM": "lstm",
            "LSTMCell": "lstm_cell",
            "GRU": "gru",
            "GRUCell": "gru_cell",
            "SimpleRNN": "simple_rnn",
            "SimpleRNNCell": "simple_rnn_cell",
            "RNN": "rnn",
            "Bidirectional": "bidirectional",
            "TimeDistributed": "time_distributed",
            "StackedRNNCells": "stacked_rnn_cell",
        }.items()
    },
    "keras.layers.Dense": "layers/core_layers/dense/",
    "keras.layers.Embedding": "layers/core_layers/embedding/",
    "keras.layers.Masking": "layers/core_layers/masking/",
    "keras.layers.TextVectorization": "layers/preprocessing_layers/text/text_vectorization/",
    "keras.utils.timeseries_dataset_from_array": "data_loading/timeseries/",
}


def link_names(app: Any, doctree: Any, page: str) -> None:
    """Make a public name in code type, of this package or of Keras, a link to its page."""
    from docutils import nodes

    pages = app.env.get_domain("py").objects
    for literal in list(doctree.findall(nodes.literal)):
        name = literal.astext().removesuffix("()")
        if isinstance(literal.parent, nodes.reference | nodes.title):
            continue
        ours = pages.get(f"keras_rnnkit.{name.removeprefix('rk.')}")
        plain = "." not in name and name.isidentifier() and ("_" in name or name != name.lower())
        if ours and (name.startswith("rk.") or plain) and ours.docname != page:
            address = app.builder.get_relative_uri(page, ours.docname)
        elif name in KERAS_PAGES:
            address = KERAS + KERAS_PAGES[name]
        else:
            continue
        inside = "" if address.startswith("https") else f"#{ours.node_id}"
        link = nodes.reference(
            "", "", refuri=address + inside, internal=not address.startswith("https")
        )
        literal.replace_self(link)
        link += literal


def find_undocumented(app: Any, env: Any) -> None:
    """Warn, which fails the build, of each public name without a page of its own."""
    from sphinx.util import logging

    documented = env.get_domain("py").objects
    for name in rk.__all__:
        value = getattr(rk, name)
        members = vars(value)["__all__"] if inspect.ismodule(value) else [None]
        for member in members:
            full = f"keras_rnnkit.{name}" + (f".{member}" if member else "")
            flat = member and getattr(rk, member, None) is getattr(value, member)
            if full not in documented and not flat:
                logging.getLogger(__name__).warning("%s has no page in the reference", full)


def show_init(app: Any, what: str, name: str, obj: Any, *shown: Any) -> tuple[str, str] | None:
    """Show how a class is made by its `__init__`: Keras's `__new__` takes anything."""
    from sphinx.util.inspect import signature, stringify_signature

    if what != "class" or not issubclass(obj, keras.layers.Layer):
        return None
    made = signature(obj.__init__, bound_method=True, type_aliases=app.config.autodoc_type_aliases)
    return stringify_signature(made, show_return_annotation=False), ""


def find_flat(app: Any, env: Any, node: Any, text: Any) -> Any:
    """Find a class that an annotation names by its file where its page is: in the package."""
    name = node.get("reftarget", "").rpartition(".")[2]
    if name not in rk.__all__:
        return None
    arguments = env, node["refdoc"], app.builder, "class", f"keras_rnnkit.{name}", node, text
    return env.get_domain("py").resolve_xref(*arguments)


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("missing-reference", find_flat)
    app.connect("autodoc-process-signature", show_init)
    app.connect("env-check-consistency", find_undocumented)
    app.connect("doctree-resolved", link_names)
