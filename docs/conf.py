"""Sphinx settings."""

import doctest
import inspect
import re
from importlib.metadata import version as installed_version
from typing import Any

import keras

import keras_rnnkit as rk

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
        "WindowSpec": "every_step, length, reach, input_rows, target_rows, roles",
        # What these have besides their arguments and `rk.Cell`'s names is how they work.
        **dict.fromkeys(rk.cells.__all__, ""),
    },
    "hidden": {
        "FitEpoch": "tell, on_train_begin, on_epoch_begin",
        "RecurrentMonitor": "on_train_begin, on_train_batch_end, on_epoch_end",
        "Scaler": "affine, check_targets",
        "Split": "train, val, test",
        "TimeSeries": "columns, of_rows, extended",
        "WindowLoader": "on_epoch_begin, on_epoch_end",
    },
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
# Named by annotations, without a page.
nitpick_ignore_regex = [
    ("py:class", r"numpy\.random\..*"),
    ("py:class", r"keras_rnnkit\.(\w+\.)+\w+|[A-Z]\w+"),
]


sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"\.py$",
    "ignore_pattern": r"command_line\.py",
    "abort_on_example_error": True,
    "backreferences_dir": "api/generated/used",
    "doc_module": ("keras_rnnkit",),
    "inspect_global_variables": False,
    "download_all_examples": False,
    "show_signature": False,
    "min_reported_time": 10**6,
    "matplotlib_animations": False,
    "remove_config_comments": True,
}


# Where the pages of names of other projects are, by rules, so that a build needs no network.
KERAS = "https://keras.io/api/"
KERAS_PAGES = {
    "keras.Input": "layers/core_layers/input/",
    "keras.Model": "models/model/",
    "keras.callbacks.BackupAndRestore": "callbacks/backup_and_restore/",
    "keras.callbacks.Callback": "callbacks/base_callback/",
    "keras.callbacks.ModelCheckpoint": "callbacks/model_checkpoint/",
    "keras.layers.Dense": "layers/core_layers/dense/",
    "keras.layers.Embedding": "layers/core_layers/embedding/",
    "keras.layers.Layer": "layers/base_layer/",
    "keras.layers.Masking": "layers/core_layers/masking/",
    "keras.layers.Normalization": "layers/preprocessing_layers/numerical/normalization/",
    "keras.layers.TextVectorization": "layers/preprocessing_layers/text/text_vectorization/",
    "keras.ops": "ops/",
    "keras.saving.load_model": "models/model_saving_apis/model_saving_and_loading/",
    "keras.utils.get_file": "utils/python_utils/",
    "keras.utils.set_random_seed": "utils/python_utils/",
    "keras.utils.timeseries_dataset_from_array": "data_loading/timeseries/",
    **{
        f"keras.layers.{name}": f"layers/recurrent_layers/{page}/"
        for name, page in {
            "Bidirectional": "bidirectional",
            "GRU": "gru",
            "GRUCell": "gru_cell",
            "LSTM": "lstm",
            "LSTMCell": "lstm_cell",
            "RNN": "rnn",
            "SimpleRNN": "simple_rnn",
            "SimpleRNNCell": "simple_rnn_cell",
            "StackedRNNCells": "stacked_rnn_cell",
            "TimeDistributed": "time_distributed",
        }.items()
    },
}
RULES = {
    r"numpy\.\w+": "https://numpy.org/doc/stable/reference/generated/{name}.html",
    r"pandas\.\w+": "https://pandas.pydata.org/docs/reference/api/{name}.html",
    r"tf(?!\.keras)(\.[a-z_]+)*\.\w+": "https://www.tensorflow.org/api_docs/python/{path}",
    r"jax\.(jit|lax\.\w+)": "https://docs.jax.dev/en/latest/_autosummary/{name}.html",
    r"jax\.(distributed|export)": "https://docs.jax.dev/en/latest/{name}.html",
    r"torch\.nn\.[A-Z]\w+": "https://docs.pytorch.org/docs/stable/generated/{name}.html",
    r"torch\.distributed": "https://docs.pytorch.org/docs/stable/distributed.html",
    r"(?P<module>collections(\.abc)?|datetime|os)\.\w+": (
        "https://docs.python.org/3/library/{module}.html#{name}"
    ),
}


def elsewhere(name: str) -> str:
    """The address of a name of another project; empty where none is known."""
    if name in KERAS_PAGES:
        return KERAS + KERAS_PAGES[name]
    for rule, address in RULES.items():
        if found := re.fullmatch(rule, name):
            return address.format(name=name, path=name.replace(".", "/"), **found.groupdict())
    return ""


def link_names(app: Any, doctree: Any, page: str) -> None:
    """Make a name in code type, of this package or of another project, a link to its page."""
    from docutils import nodes

    pages = app.env.get_domain("py").objects
    for literal in list(doctree.findall(nodes.literal)):
        name = literal.astext().removesuffix("()")
        if isinstance(literal.parent, nodes.reference | nodes.title):
            continue
        ours = pages.get(f"keras_rnnkit.{name.removeprefix('rk.')}")
        # Other libraries have names such as `LSTM` and `Scaler` too.
        plain = "." not in name and ("_" in name or name != name.lower())
        plain = plain and page != "glossary" and not hasattr(keras.layers, name)
        if ours and (name.startswith("rk.") or plain) and ours.docname != page:
            address = app.builder.get_relative_uri(page, ours.docname)
        elif not (address := elsewhere(name)):
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


def find_name(app: Any, env: Any, node: Any, text: Any) -> Any:
    """Find a class that an annotation names: in this package, or where another project has it."""
    from docutils import nodes

    target = re.sub(r"keras\.src\.[\w.]+\.", "keras.", node.get("reftarget", ""))
    name = target.rpartition(".")[2]
    if address := elsewhere(target):
        return nodes.reference("", "", text, refuri=address, internal=False)
    if name not in rk.__all__:
        return None
    arguments = env, node["refdoc"], app.builder, "class", f"keras_rnnkit.{name}", node, text
    return env.get_domain("py").resolve_xref(*arguments)


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("missing-reference", find_name)
    app.connect("autodoc-process-signature", show_init)
    app.connect("env-check-consistency", find_undocumented)
    app.connect("doctree-resolved", link_names)
