"""Kernels keep the promise of equal bytes: serial, and in the order in which they are written."""

from types import ModuleType

import numba
import pytest

from matting import jit
from matting.solvers import conjugate_gradient, graph_laplacian, knn_search, window_laplacian


@pytest.mark.parametrize(
    "module", [graph_laplacian, knn_search, conjugate_gradient, window_laplacian]
)
def test_kernels_are_serial_and_exact(module: ModuleType) -> None:
    kernels = [value for value in vars(module).values() if hasattr(value, "targetoptions")]
    assert kernels
    for kernel in kernels:
        assert not kernel.targetoptions.get("fastmath")
        assert not kernel.targetoptions.get("parallel")
        assert kernel.targetoptions["nogil"]


def test_where_nothing_can_be_kept_on_disk_kernels_are_compiled_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = numba.njit

    def without_disk(*arguments: object, cache: bool = False, **options: object) -> object:
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return real(*arguments, **options)

    monkeypatch.setattr(numba, "njit", without_disk)
    assert jit.kernel(lambda x: 2.0 * x)(3.0) == 6.0
