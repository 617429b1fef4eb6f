"""Path contributions of scikit-learn's histogram trees: Saabas, Interpreting random forests, 2014.

The expected value of a node is the mean of its leaves by their training rows. A row starts at the
root's; each split on its path changes it, and the change belongs to the column that is split by.
So a row's contributions and the roots' values sum to what the trees say, whatever the trees are.

Reads private fields of HistGradientBoosting (`_predictors`, `_baseline_prediction`,
`_preprocess_X`), for there are no others; tests hold the sums against its public predictions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor

_WORD = 32
"""Bits in a word of a set of categories."""


def path_contributions(
    estimator: HistGradientBoostingClassifier | HistGradientBoostingRegressor, matrix: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What each column adds to each row's margin.

    Args:
        estimator: fitted.
        matrix: as it reads it, shape (rows, columns), at least one row.

    Returns:
        contributions, shape (rows, columns, trees of a round), and the base, shape (trees of a
        round,): one tree a round for one number, one for each of several classes.
    """
    seen = estimator._preprocess_X(matrix, reset=False)
    base = estimator._baseline_prediction.ravel().astype(np.float64)
    found = np.zeros((len(base), *seen.shape))
    for trees in estimator._predictors:
        for place, tree in enumerate(trees):
            base[place] += _follow(tree, seen, found[place])
    shares = np.empty((*matrix.shape, len(base)))
    shares[:, _order(estimator, matrix.shape[1])] = np.moveaxis(found, 0, -1)
    return shares, base


def expected_values(nodes: np.ndarray) -> np.ndarray:
    """The mean of the leaves below each node, by their training rows, shape (nodes,)."""
    values, rows = nodes["value"].astype(np.float64), nodes["count"].astype(np.float64)
    inner = ~nodes["is_leaf"].astype(bool)
    for depth in range(int(nodes["depth"].max()) - 1, -1, -1):
        here = np.flatnonzero(inner & (nodes["depth"] == depth))
        left, right = nodes["left"][here], nodes["right"][here]
        below = rows[left] * values[left] + rows[right] * values[right]
        values[here] = below / (rows[left] + rows[right])
    return values


def _follow(tree: TreePredictor, seen: np.ndarray, found: np.ndarray) -> float:
    """Add a tree's changes along each row's path to `found`; return the root's value."""
    nodes, values = tree.nodes, expected_values(tree.nodes)
    inner = ~nodes["is_leaf"].astype(bool)
    rows = np.arange(len(seen)) if inner[0] else np.empty(0, dtype=np.intp)
    at = np.zeros(len(rows), dtype=np.intp)
    while rows.size:
        column = nodes["feature_idx"][at]
        left = _goes_left(tree, at, seen[rows, column])
        below = np.where(left, nodes["left"][at], nodes["right"][at]).astype(np.intp)
        found[rows, column] += values[below] - values[at]  # A row is there once: no need of add.at.
        further = inner[below]
        rows, at = rows[further], below[further]
    return float(values[0])


def _goes_left(tree: TreePredictor, at: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Whether each row goes left at its node; shapes (rows,)."""
    nodes = tree.nodes
    missing = np.isnan(value)
    left = np.where(
        missing, nodes["missing_go_to_left"][at] != 0, value <= nodes["num_threshold"][at]
    )
    # A level that was not there in training has become missing before it comes here.
    by_set = np.flatnonzero((nodes["is_categorical"][at] != 0) & ~missing)
    if by_set.size:
        code = value[by_set].astype(np.uint32)
        words = tree.raw_left_cat_bitsets[nodes["bitset_idx"][at[by_set]], code // _WORD]
        left[by_set] = (words >> (code % _WORD)) & 1 != 0
    return left


def _order(
    estimator: HistGradientBoostingClassifier | HistGradientBoostingRegressor, columns: int
) -> np.ndarray:
    """Which of the matrix's columns each column of the trees is: the categorical come first."""
    categorical = estimator.is_categorical_
    if categorical is None:
        return np.arange(columns)
    return np.argsort(~categorical, kind="stable")
