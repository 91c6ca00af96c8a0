"""The program ``sonograd``, as the package installs it."""

from __future__ import annotations

import signal
import sys

from . import _native


def main() -> int:
    """Runs the command line of this process; gives the exit code."""
    # Python's handler would wait for its interpreter, which the program never
    # comes back to. Where Ctrl-C is ignored there is none.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    return _native.main(["sonograd", *sys.argv[1:]])
