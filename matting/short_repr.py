"""One line for records that hold arrays, as a notebook prints them."""

import reprlib
from dataclasses import fields
from typing import Any

import numpy as np


def short_repr(record: Any) -> str:
    """Return a dataclass as its `repr`, but an array as its type and size.

    Used as ``__repr__`` in the body of a dataclass.
    """
    shown = (f"{field.name}={_short(getattr(record, field.name))}" for field in fields(record))
    return f"{type(record).__name__}({', '.join(shown)})"


def _short(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"<{value.dtype} {'x'.join(map(str, value.shape))}>"
    return reprlib.repr(value)
