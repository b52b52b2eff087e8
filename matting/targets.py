"""Which question a matte answers, and the automatic pick among the mattes that answer one.

A plain form (cf, knn, lb, if) estimates opacity, the share of a voxel that is lesion; a + form
estimates density, that share times the lesion's radiodensity target (Eq. 28). They differ most in
the lesion's core, where a + form has the density of the tissue and readers' masks have 1. To rank
all eight by their agreement with the masks would measure that density, so a pick is made among the
four forms that answer one question.
"""

import math
from collections.abc import Mapping
from typing import Literal, get_args

Target = Literal["density", "opacity"]
TARGETS: tuple[Target, ...] = get_args(Target)
FORMS_OF: dict[Target, str] = {"density": "+ forms", "opacity": "plain forms"}
"""What the four mattes that answer a question are called."""
MEANINGS: dict[Target, str] = {
    "density": "the share of the voxel that is lesion times its radiodensity target",
    "opacity": "the share of the voxel that is lesion",
}
"""What the value of a voxel means."""


def target_of(method: str) -> Target:
    """Return the question that a method answers."""
    return "density" if method.endswith("+") else "opacity"


def family_of(method: str) -> str:
    """Return the name that the plain and the + form of a method share: that of the plain one."""
    return method.removesuffix("+")


def rank(figures: Mapping[str, Mapping[str, float]], target: Target) -> tuple[str, ...]:
    """Return the methods that answer a question, best first; the first is the automatic pick.

    What decides is the family, and by figures that do not depend on the question: the agreement of
    its plain form with the readers (cross-entropy), then its plain form's compositing residual,
    then the order given. A family whose plain form did not converge comes after those that have
    figures. The other figures are warnings: on simulated nodules with known mattes they favour
    candidates that are too small or too blurred, and using them made the pick worse.

    Args:
        figures: By method, its figures by name; the converged methods only, in stored order.
        target: The question.

    Returns:
        The converged methods that answer it; empty where none of the four did.
    """

    def quality(method: str) -> tuple[float, float]:
        plain = figures.get(family_of(method), {})
        agreement = plain.get("cross_entropy", math.inf)
        return agreement, plain.get("compositing_residual", math.inf)

    return tuple(sorted((m for m in figures if target_of(m) == target), key=quality))
