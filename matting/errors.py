"""The error for input that cannot be processed."""


class InputError(ValueError):
    """Input that cannot be processed; the message says what is wrong and how to correct it.

    Attributes:
        what: The problem in one clause, e.g. ``"slices are missing"``.
        got: The input.
        expected: What is accepted.
        remedy: What the user can do.
    """

    def __init__(self, what: str, *, got: object, expected: object, remedy: str) -> None:
        super().__init__(f"{what}: got {_in_words(got)}, expected {expected}. {remedy}")
        self.what = what
        self.got = got
        self.expected = expected
        self.remedy = remedy

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the error, as Dask does; the default fails on keyword-only arguments."""
        return _rebuild, (self.what, self.got, self.expected, self.remedy)


def _in_words(got: object) -> object:
    """Return what a message says of the input: of an error of the system no number."""
    if isinstance(got, OSError) and got.strerror:
        return f"{got.filename}: {got.strerror}" if got.filename else got.strerror
    return got


def _rebuild(what: str, got: object, expected: object, remedy: str) -> InputError:
    return InputError(what, got=got, expected=expected, remedy=remedy)
