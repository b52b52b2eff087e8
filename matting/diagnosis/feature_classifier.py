"""Simple classifiers of malignancy on features: logistic regression and gradient boosting."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

FeatureClassifier = Literal["logistic", "boosting"]


def score_by_features(
    train: NDArray[np.float64],
    malignant: NDArray[np.bool_],
    test: NDArray[np.float64],
    kind: FeatureClassifier,
    seed: int,
) -> NDArray[np.float64]:
    """Train a classifier on the features of some nodules and score others.

    Args:
        train: (n, features).
        malignant: (n,) bool, both kinds present.
        test: (m, features).
        kind: Which classifier.
        seed: Of the draws of boosting; the same seed gives the same scores.

    Returns:
        (m,) log odds of malignancy.
    """
    scores: NDArray[np.float64] = _make(kind, seed).fit(train, malignant).decision_function(test)
    return scores


def _make(kind: FeatureClassifier, seed: int) -> Pipeline:
    # Fixed in advance, not tuned: a strong penalty and short trees, for a few hundred nodules.
    if kind == "logistic":
        return make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    boosting = GradientBoostingClassifier(
        n_estimators=150,
        learning_rate=0.05,
        max_depth=3,
        subsample=0.7,
        min_samples_leaf=8,
        max_features="sqrt",
        random_state=seed,
    )
    return make_pipeline(boosting)
