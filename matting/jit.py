"""Compilation of numeric kernels: once per machine, serial, and in plain IEEE arithmetic.

No threads and no fastmath, so that the same input gives the same bytes on any worker, in any order.
Kernels of the network's training may reorder sums: its bytes depend on the processor in any case,
since torch chooses its own kernels by it.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar, cast, overload

import numba

_IS_ISOLATED = not __name__.startswith("matting.")
"""Whether this is `halosign.matting`, beside another package of that name."""
Function = TypeVar("Function", bound=Callable[..., Any])


@overload
def kernel(function: Function) -> Function: ...


@overload
def kernel(*, reordered: bool = False, inlined: bool = False) -> Callable[[Function], Function]: ...


def kernel(
    function: Function | None = None, *, reordered: bool = False, inlined: bool = False
) -> Function | Callable[[Function], Function]:
    """Compile a function to machine code, cached on disk beside its source or in the user's cache.

    The interpreter's lock is released while it runs. If neither place can be written, each process
    compiles for itself instead of failing at import.

    Args:
        function: The function to compile.
        reordered: Let the compiler change the order of sums; the result's last bits then depend on
            the processor.
        inlined: Copy the function into those that call it, where a call would cost as much as what
            it does.

    Returns:
        The compiled function, or a decorator if no function is given.
    """
    if function is None:
        return partial(_compiled, reordered=reordered, inlined=inlined)
    return _compiled(function, reordered=False, inlined=False)


def _compiled(function: Function, *, reordered: bool, inlined: bool) -> Function:
    options: dict[str, Any] = {
        "error_model": "numpy",
        "nogil": True,
        "fastmath": {"reassoc", "contract"} if reordered else False,
        "inline": "always" if inlined else "never",
    }
    try:
        # Cached code names its module, which another package's `matting` would then stand for
        return cast(Function, numba.njit(cache=not _IS_ISOLATED, **options)(function))
    except RuntimeError:
        return cast(Function, numba.njit(**options)(function))
