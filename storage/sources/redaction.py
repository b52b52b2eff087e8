"""Messages without the names of a table's files, which may contain what identifies a patient.

What stops a nodule is stored, logged and shown. So it names the column of a file, and the nodule
tells the row.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from matting.errors import InputError
from storage.errors import StoreError

Result = TypeVar("Result")


class Redaction:
    """Replaces the names of one row's files.

    Args:
        folder: Of the table.
        files: What the table says and the path that it means, by column.
    """

    def __init__(self, folder: Path, files: Mapping[str, list[tuple[str, Path]]]) -> None:
        words = {str(folder): "the table's folder"}
        stems = {}
        for column, names in files.items():
            for number, (name, path) in enumerate(names, 1):
                which = f"file {number}" if len(names) > 1 else "the file"
                label = f"{which} of column `{column}`"
                words |= {str(one): label for one in (path, path.resolve(), name, path.name)}
                # A header may have its voxels in another file of the same stem
                stems[path.name.split(".")[0]] = label
        self._labels = words | stems
        whole = "|".join(map(re.escape, sorted(words, key=len, reverse=True)))
        stem = "|".join(map(re.escape, filter(None, stems))) or "(?!)"
        self._pattern = re.compile(
            rf"(?<![\w.-])(?:({whole})(?:/[^\s'\",:;)]+)*|({stem})(?:\.\w+)+)(?![\w-])"
        )

    def text(self, text: str) -> str:
        """Return a text without the names."""
        return self._pattern.sub(self._label, text)

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

    def _label(self, match: re.Match[str]) -> str:
        return self._labels[match[1] or match[2]]

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
