"""Which labels are likely wrong: those that a classifier which never saw them finds hardest to believe.

Suspects are cleanlab's (Northcutt et al. 2021, "Confident Learning", arXiv:1911.00068), from the out-of-fold
probabilities of a logistic regression. cleanlab alone says nothing about how good its suspects are, and flags some in
any data. So the labels are judged twice: as they are, and with known mistakes among them, of which precision and recall
are counted. And how many labels are wrong is estimated where the classifier is surest, which does not depend on the
label of the image itself: there almost every disagreement is the label's fault.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from trainables.proportion import wilson_interval

__all__ = ["FEWEST", "WEAKEST", "Verdict", "inject", "judge", "out_of_fold"]

WEAKEST = 0.8  # cross-validated accuracy below which a classifier has no say: a weak one flags a third of clean data
FEWEST = 5  # images of a class, one for each fold
INJECTED = 0.05  # share of labels that are made wrong for the test
_SUREST = 0.2  # share of images by whose labels the share of wrong ones is estimated
_MOST_FORGIVEN = 0.1
_STRENGTHS = (0.01, 0.1, 1.0)  # of scikit-learn's C

Labels = NDArray[np.int64]
Probabilities = NDArray[np.float64]


@dataclass(frozen=True)
class Verdict:
    """What a classifier thinks of labels.

    Attributes:
        accuracy: its cross-validated accuracy, by the labels as they are.
        wrong: the estimated share of wrong labels, with a 95 % interval (Wilson).
        looked_at, disagree: of the labels of how many images that is estimated, and how many of them it contradicts.
        suspects: numbers of the images, the likeliest first.
        predicted: of each image, the class that it would be, int64 [n].
        confidence: of each image, the probability of the label that it has, float64 [n].
        injected: how many labels were made wrong for the test, `recall` of them found, at this `precision`: a lower
            bound of it, since labels that were wrong before count as mistakes. Not tried if the classifier is not able.
    """

    accuracy: float
    wrong: tuple[float, float, float]
    looked_at: int
    disagree: int
    suspects: Labels
    predicted: Labels
    confidence: Probabilities
    injected: int = 0
    recall: float = 0.0
    precision: float = 0.0

    @property
    def is_able(self) -> bool:
        """Whether the classifier is good enough to judge.

        Labels that are surely wrong, a tenth at most, are not held against it: with none, 5 % or 10 % of CIFAR-10's
        labels made wrong, its accuracy by the others stays the same within .01.
        """
        return self.accuracy / (1 - min(self.wrong[1], _MOST_FORGIVEN)) >= WEAKEST


def judge(features: NDArray[np.floating[Any]], labels: Labels, groups: Labels, seed: int = 0) -> Verdict:
    """Judge labels by features of the images. Needs cleanlab, the extra `doctor`.

    Args:
        features: [n, k].
        labels: int64 [n], every class at least `FEWEST` times.
        groups: int64 [n]; images of one group (near-identical ones) are in one fold, so that none vouches for its twin.
        seed: of the folds and the test.
    """
    names, given = np.unique(labels, return_inverse=True)
    chosen = out_of_fold(features, given, groups, _STRENGTHS, seed)
    predicted, confidence = chosen.argmax(axis=1), chosen[np.arange(len(given)), given]
    looked_at, disagree = surest_disagree(chosen, given)
    verdict = Verdict(
        accuracy=float((predicted == given).mean()),
        wrong=(disagree / looked_at, *wilson_interval(disagree, looked_at)),
        looked_at=looked_at,
        disagree=disagree,
        suspects=suspects_of(chosen, given),
        predicted=names[predicted],
        confidence=confidence,
    )
    if not verdict.is_able:
        return verdict
    flipped, injected = inject(given, INJECTED, seed)
    tried = suspects_of(out_of_fold(features, flipped, groups, _STRENGTHS, seed), flipped)
    hits = len(np.intersect1d(tried, injected))
    return replace(verdict, injected=len(injected), recall=hits / len(injected), precision=hits / max(len(tried), 1))


def out_of_fold(
    features: NDArray[np.floating[Any]], labels: Labels, groups: Labels, strengths: tuple[float, ...], seed: int
) -> Probabilities:
    """The probability of each class for each image, float64 [n, classes], from classifiers that did not see its group.

    Of the `strengths` (inverse regularization, C) the one with the lowest loss is taken.
    """
    best: Probabilities | None = None
    with warnings.catch_warnings():  # of fits that have not converged, which the loss judges, and of rare classes
        warnings.simplefilter("ignore")
        folds = list(StratifiedGroupKFold(FEWEST, shuffle=True, random_state=seed).split(features, labels, groups))
        for strength in strengths:
            classifier = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=300))
            found = cross_val_predict(classifier, features, labels, cv=folds, method="predict_proba")
            if best is None or log_loss(labels, found) < log_loss(labels, best):
                best = found
    if best is None:
        raise ValueError("strengths must not be empty")
    return best


def suspects_of(probabilities: Probabilities, labels: Labels) -> Labels:
    """cleanlab's suspects among `labels`, the likeliest first."""
    from cleanlab.filter import find_label_issues

    found: Labels = find_label_issues(
        labels, probabilities, filter_by="low_self_confidence", return_indices_ranked_by="self_confidence", n_jobs=1
    )
    return found


def surest_disagree(probabilities: Probabilities, labels: Labels) -> tuple[int, int]:
    """Of how many images, those that the classifier is surest of, it contradicts how many labels."""
    count = max(1, round(_SUREST * len(labels)))
    surest = np.argsort(-probabilities.max(axis=1), kind="stable")[:count]
    return count, int((probabilities[surest].argmax(axis=1) != labels[surest]).sum())


def inject(labels: Labels, share: float, seed: int) -> tuple[Labels, Labels]:
    """A copy of `labels`, 0 to K - 1, with a share of them changed to any other class; and which ones."""
    rng = np.random.default_rng(seed)
    classes = int(labels.max()) + 1
    chosen = rng.choice(len(labels), max(1, round(share * len(labels))), replace=False)
    flipped = labels.copy()
    flipped[chosen] = (flipped[chosen] + rng.integers(1, classes, len(chosen))) % classes
    return flipped, np.sort(chosen)
