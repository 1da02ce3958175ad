"""The settings of an example as options of its command line: `EPOCHS = 8` is `--epochs 8`."""

import argparse
import inspect
import re
from pathlib import Path


def change(scope, quick):
    """Change the settings of a script by its command line.

    Args:
        scope: its `globals()`: names in capitals, each with its type and, in the file, a comment
            that says what it is.
        quick: the settings of `--quick`, a short run that shows that everything works.
    """
    parser = argparse.ArgumentParser(
        description=scope["__doc__"], formatter_class=argparse.RawDescriptionHelpFormatter
    )
    caller = inspect.currentframe().f_back.f_code.co_filename
    source = Path(caller).read_text(encoding="utf-8")
    for name, told in re.findall(r"^([A-Z_]+) = .+?  # (.+)$", source, re.MULTILINE):
        value, option = scope[name], f"--{name.lower().replace('_', '-')}"
        about = f"{told} (default: {value})".replace("%", "%%")
        if isinstance(value, bool):
            parser.add_argument(option, action=argparse.BooleanOptionalAction, help=about)
        elif isinstance(value, list):
            parser.add_argument(option, nargs="*", help=about)
        else:
            parser.add_argument(option, type=str if value is None else type(value), help=about)
    parser.add_argument("--quick", action="store_true", help="a short run: does everything work?")
    given = vars(parser.parse_args())
    if given.pop("quick"):
        scope.update(quick)
    scope.update({name.upper(): value for name, value in given.items() if value is not None})
