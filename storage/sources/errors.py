"""The error for a source that is away."""

from matting.errors import InputError


class SourceUnreachableError(InputError):
    """A source, or the files of one nodule, cannot be reached now; they may be back later.

    It says nothing about what was computed from them, so nothing in a store depends on it.
    """

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the error as what it is."""
        return _rebuild, (self.what, self.got, self.expected, self.remedy)


def _rebuild(what: str, got: object, expected: object, remedy: str) -> SourceUnreachableError:
    return SourceUnreachableError(what, got=got, expected=expected, remedy=remedy)
