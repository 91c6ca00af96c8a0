"""``python -m sonograd.ray study ARGS``: the program's arguments, and Ray's own."""

import argparse
import sys
from typing import List, NoReturn, Optional

from .. import _native
from .._errors import SonogradError
from . import Work


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SonogradError(message)


def _told(
    model: str, what: str, error: Optional[str], done: int, most: int, left: float
) -> None:
    if error:
        _native.say(f"error: {what}: {error}")
    _native.say(f"{model}: {done} of {most}, {what}, {left:.0f} s left")


def main() -> int:
    """Runs the command line; gives the exit code."""
    parser = _Parser(
        prog="python -m sonograd.ray",
        usage="%(prog)s study ARGS [--actors N] [--threads N] [--gpus N] [--address ADDRESS]",
        epilog="ARGS are those of `sonograd study --help`.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--actors", type=int, help="workers [default: as many as the cluster holds]")
    add("--threads", type=int, default=1, help="processors of each [default: 1]")
    add("--gpus", type=float, help="GPUs of each [default: 1 where there are any]")
    add("--address", help="of the cluster [default: Ray's: RAY_ADDRESS, or one of its own]")
    try:
        own, words = parser.parse_known_args()
        work = Work(words, own.actors, own.threads, own.gpus, own.address)
        finished = work.run(_told, _native.say)
        if not finished:
            return 1
        return 0 if work.study.print_tables() else 1
    except SonogradError as problem:
        _native.say(f"error: {problem}")
        return 2


if __name__ == "__main__":
    sys.exit(main())
