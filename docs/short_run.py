"""How the gallery runs the examples: in their short form."""

from typing import Any


def arguments(gallery_conf: Any, script_vars: Any) -> list[str]:
    """The command line of an example."""
    return ["--quick"]
