"""The one way in which bad input is turned away."""


class InputError(ValueError):
    """Input that cannot be worked on; the message says what came, what was wanted and what to do.

    Attributes:
        what: The complaint in one clause, e.g. ``"slices are missing"``.
        got: What came.
        expected: What was wanted.
        remedy: What the user can do about it.
    """

    def __init__(self, what: str, *, got: object, expected: object, remedy: str) -> None:
        super().__init__(f"{what}: got {got}, expected {expected}. {remedy}")
        self.what = what
        self.got = got
        self.expected = expected
        self.remedy = remedy

    def __reduce__(self) -> tuple[object, ...]:
        """Survive the way from a worker to the client: keyword-only arguments defeat the default."""
        return _rebuild, (self.what, self.got, self.expected, self.remedy)


def _rebuild(what: str, got: object, expected: object, remedy: str) -> InputError:
    return InputError(what, got=got, expected=expected, remedy=remedy)
