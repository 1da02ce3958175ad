"""One line on stderr while a long read goes on."""

import sys
import time
from collections.abc import Callable
from types import TracebackType

_QUIET_SECONDS = 2.0
_STEP_SECONDS = 0.25


class Progress:
    """Reports the share read, from the third second on and a few times a second.

    Args:
        name: What is being read.
        share: Gives the share read so far, 0 to 1.
        shown: Whether to write at all.
    """

    def __init__(self, name: str, share: Callable[[], float], *, shown: bool = True) -> None:
        self._name = name
        self._share = share
        self._next = time.monotonic() + _QUIET_SECONDS if shown else float("inf")
        self._written = False

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._written:
            sys.stderr.write("\n")

    def update(self) -> None:
        """Write the line anew when its time has come."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _STEP_SECONDS
        self._written = True
        sys.stderr.write(f"\r{self._name}: {self._share():.0%}")
        sys.stderr.flush()
