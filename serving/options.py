"""Options of the commands that are numbers within bounds."""

import argparse
from collections.abc import Callable
from typing import Any


def number(least: float, greatest: float = float("inf"), kind: type[int | float] = float) -> Callable[[str], Any]:
    """What reads an option that is a number within bounds."""

    def read(text: str) -> Any:
        try:
            found = kind(text)
            if least <= found <= greatest and found < float("inf"):
                return found
        except ValueError:
            pass
        bounds = f"from {least:g}" + (f" to {greatest:g}" if greatest < float("inf") else "")
        raise argparse.ArgumentTypeError(f"{text} is not a{' whole' * (kind is int)} number {bounds}")

    return read
