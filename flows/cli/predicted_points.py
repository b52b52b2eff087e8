"""What `halosign predict --table` prints."""

from collections import Counter
from collections.abc import Sequence

from flows.engine.console import console
from tasks.learning.predict import PredictedPoint


def show_predicted_points(points: Sequence[PredictedPoint]) -> None:
    """Print how many lesions were found, and why points were refused, each reason once."""
    states = Counter(point.state for point in points)
    counts = ", ".join(f"{states[s]} {s}" for s in ("found", "no nodule", "refused") if states[s])
    console.print(f"{len(points)} points: {counts}")
    for reason, count in Counter(point.reason for point in points if point.reason).items():
        console.print(f"  {count} refused: {reason}", markup=False, soft_wrap=True)
