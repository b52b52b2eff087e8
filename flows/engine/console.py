"""The terminal that all commands and flows print to."""

from rich.console import Console

console = Console(soft_wrap=True, highlight=False)


def count_of(number: int, word: str) -> str:
    """Return a number with its word, e.g. ``1 nodule`` or ``1,068 nodules``."""
    return f"{number:,} {word}{'s' * (number != 1)}"
