"""The cache of compiled kernels: what is wrong with it costs time, never a result.

Machine code is kept beside the sources, and in the user's cache where that folder cannot be
written. It is valid for the sources of `matting`, the versions of numba and Python, and the
processor that it was compiled for. Every file carries its SHA-256: a file that is damaged, foreign
or cut short is compiled again.
"""

import hashlib
import os
import pickle
import re
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import llvmlite
import numba
from numba.core.caching import CompileResultCacheImpl, FunctionCache, IndexDataCacheFile
from numba.core.caching import _CacheLocator as CacheLocator

_SOURCES = Path(__file__).parent
_SHA256_BYTES = 32

KEPT_DAYS = 30
"""Machine code of another version is removed when it was not used for this long: environments of
several versions may use one folder in turn."""


@lru_cache(maxsize=1)
def source_key() -> str:
    """Return what compiled kernels depend on, the functions that they call included.

    Machine code names its module, which is another one beside a foreign `matting`.
    """
    key = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__} {sys.version}".encode())
    key.update(__name__.encode())
    for path in sorted(_SOURCES.rglob("*.py")):
        key.update(f"{path.relative_to(_SOURCES)} {path.stat().st_size} ".encode())
        key.update(path.read_bytes())
    return key.hexdigest()[:16]


def cache_folders() -> tuple[Path, ...]:
    """Return where machine code is looked for, and kept where it can be written.

    ``NUMBA_CACHE_DIR`` replaces both folders.
    """
    name = f"kernels-{source_key()}"
    named = os.environ.get("NUMBA_CACHE_DIR")
    if named:
        return (Path(named) / name,)
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return _SOURCES / "__pycache__" / name, user / "halosign" / name


def is_compiled() -> bool:
    """Return whether some kernels were compiled before, by this machine or its image."""
    return any(next(folder.glob("*.nbi"), None) for folder in cache_folders())


def remove_unused(kept: Path) -> None:
    """Remove the machine code of other versions beside a folder that nobody used for long."""
    unused_since = time.time() - KEPT_DAYS * 86_400
    for folder in kept.parent.iterdir():
        is_other = re.fullmatch(r"kernels-[0-9a-f]{16}", folder.name) and folder != kept
        if is_other and folder.stat().st_mtime < unused_since:
            shutil.rmtree(folder, ignore_errors=True)


@lru_cache
def _mark_used(folder: str) -> None:
    """Set a folder's time to that of its latest use, once in a process."""
    with suppress(OSError):
        os.utime(folder)


class KernelCache(FunctionCache):
    """The cache of one kernel; any fault of it is a miss."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._name = repr(function)
        self._py_func = function
        self._impl = _KernelCacheImpl(function)
        self._cache_path = self._impl.locator.get_cache_path()
        self._files = [
            _ProvenFiles(str(folder), self._impl.filename_base, source_key())
            for folder in cache_folders()
        ]
        self.enable()

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the compiled kernel for a signature, or None."""
        for files in self._files:
            self._cache_file = files
            # Whatever a spoiled file makes numba raise.
            with suppress(Exception):
                found = super().load_overload(sig, target_context)
                if found is not None:
                    _mark_used(files.folder)
                    return found
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep the compiled kernel in the first folder that takes it."""
        for files in self._files:
            self._cache_file = files
            with suppress(Exception):
                is_new = not Path(files.folder).exists()
                Path(files.folder).mkdir(parents=True, exist_ok=True)
                super().save_overload(sig, data)
                if is_new:
                    remove_unused(Path(files.folder))
                return


class _Locator(CacheLocator):
    """Places the cache of a kernel; numba's own locators choose folders by what can be written."""

    def __init__(self, function: Callable[..., Any], _: str) -> None:
        self._line = function.__code__.co_firstlineno

    def ensure_cache_path(self) -> None:
        """Leave the folder to `KernelCache`."""

    def get_cache_path(self) -> str:
        """Return the first folder."""
        return str(cache_folders()[0])

    def get_source_stamp(self) -> str:
        """Return what the machine code is valid for."""
        return source_key()

    def get_disambiguator(self) -> str:
        """Return what tells functions of one name apart."""
        return str(self._line)

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], py_file: str) -> "_Locator":
        """Return the locator of a function."""
        return cls(py_func, py_file)


class _KernelCacheImpl(CompileResultCacheImpl):
    def __init__(self, function: Callable[..., Any]) -> None:
        self._locator_classes = [_Locator]
        super().__init__(function)


class _ProvenFiles(IndexDataCacheFile):
    """Numba's index and data files, each behind the SHA-256 of its content."""

    def __init__(self, folder: str, filename_base: str, source_stamp: str) -> None:
        super().__init__(folder, filename_base, source_stamp)
        self.folder = folder

    def _load_index(self) -> dict[Any, str]:
        try:
            stamp, overloads = self._read(self._index_path)
        except (OSError, ValueError):
            return {}
        return cast(dict[Any, str], overloads) if stamp == self._source_stamp else {}

    def _save_index(self, overloads: dict[Any, str]) -> None:
        self._write(self._index_path, (self._source_stamp, overloads))

    def _load_data(self, name: str) -> Any:
        return self._read(self._data_path(name))

    def _save_data(self, name: str, data: Any) -> None:
        self._write(self._data_path(name), data)

    def _read(self, path: str) -> Any:
        content = Path(path).read_bytes()
        proof, payload = content[:_SHA256_BYTES], content[_SHA256_BYTES:]
        if hashlib.sha256(payload).digest() != proof:
            raise ValueError(f"{path} is damaged")
        return pickle.loads(payload)

    def _write(self, path: str, value: Any) -> None:
        payload = self._dump(value)
        with self._open_for_write(path) as file:
            file.write(hashlib.sha256(payload).digest() + payload)
