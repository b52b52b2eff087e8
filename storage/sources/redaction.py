"""Messages without the names of a table's files, which may contain what identifies a patient.

What stops a nodule is stored, logged and shown. So it names the column of a file, and the nodule
tells the row.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from matting.errors import InputError
from storage.errors import StoreError
from storage.sources.dicom_headers import folders_with_files, listing
from storage.sources.zip_folders import is_archive

Result = TypeVar("Result")

_SHORT = 5
"""Names of slices with fewer characters name nobody, and may be numbers of a message."""


class Redaction:
    """Replaces the names of one row's files.

    Args:
        folder: Of the table.
        files: What the table says and the path that it means, by column.
    """

    def __init__(self, folder: Path, files: Mapping[str, list[tuple[str, Path]]]) -> None:
        self._folder = folder
        self._files = files

    @cached_property
    def _words(self) -> tuple[dict[str, str], re.Pattern[str]]:
        """What each word is replaced by, and what finds them."""
        words = {str(self._folder): "the table's folder"}
        stems = {}
        for column, names in self._files.items():
            for _, path in names:
                words |= dict.fromkeys(_inside(path), f"a file of column `{column}`")
        for column, names in self._files.items():
            paths = [path for _, path in names]
            for number, (name, path) in enumerate(names, 1):
                # Several entries may be of one file
                same = ", ".join(str(n) for n, one in enumerate(paths, 1) if one == path)
                end = f"of column `{column}`"
                label = f"file {same} {end}" if len(names) > 1 else f"the file {end}"
                words |= {str(one): label for one in (path, path.resolve(), path.name)}
                words[name] = f"file {number} {end}" if len(names) > 1 else label
                # A header may have its voxels in another file of the same stem
                stems[path.name.split(".")[0]] = label
        whole = "|".join(map(re.escape, sorted(words, key=len, reverse=True)))
        stem = "|".join(map(re.escape, filter(None, stems))) or "(?!)"
        pattern = rf"(?<![\w.-])(?:({whole})(?:/[^\s'\",:;)]+)*|({stem})(?:\.\w+)+)(?![\w-])"
        return words | stems, re.compile(pattern)

    def text(self, text: str) -> str:
        """Return a text without the names."""
        labels, pattern = self._words
        return pattern.sub(lambda match: labels[match[1] or match[2]], text)

    def call(self, action: Callable[[], Result]) -> Result:
        """Return the result of an action; what it raises is raised without the names."""
        try:
            return action()
        except Exception as error:
            redacted = self._error(error)
            if redacted is None:
                raise
        # Here, so that the new error does not refer to the old one
        raise redacted

    def _error(self, error: BaseException) -> BaseException | None:
        """Return an error in place of another one; None where none of its causes has a name."""
        cause = error.__cause__ or error.__context__
        redacted_cause = self._error(cause) if cause is not None else None
        if self.text(str(error)) == str(error) and redacted_cause is None:
            return None
        redacted = self._same(error)
        redacted.__cause__ = redacted_cause or cause
        return redacted

    def _same(self, error: BaseException) -> BaseException:
        if isinstance(error, InputError):
            got, expected = self.text(str(error.got)), self.text(str(error.expected))
            return type(error)(
                self.text(error.what), got=got, expected=expected, remedy=self.text(error.remedy)
            )
        if isinstance(error, OSError) and not isinstance(error, StoreError) and error.errno:
            file = self.text(str(error.filename)) if error.filename else None
            return type(error)(error.errno, error.strerror, file)
        return RuntimeError(f"{type(error).__name__}: {self.text(str(error))}")


def _inside(path: Path) -> Iterator[str]:
    """Yield the names of the files in a folder or archive, which messages on slices name."""
    try:
        if path.is_dir() or is_archive(path):
            for folder in folders_with_files(path)[0]:
                yield from (name for name, _, _ in listing(folder) if len(name) >= _SHORT)
    except OSError:  # it is away: its messages name the folder
        return
