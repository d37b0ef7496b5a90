"""Lumping: of N components that wear alike only the number at each level matters.

A multiset of levels is written as a row in descending order; N = 10 components with 5 levels make 1,001 instead of
9,765,625 states.
"""

from functools import lru_cache
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray
from scipy import sparse  # type: ignore[import-untyped]

from envs.dynamics import Array, State


def multisets(components: int, levels: int) -> State:
    """All multisets of levels as descending rows (m, N), in lexicographic order."""
    rows = list(combinations_with_replacement(range(levels - 1, -1, -1), components))
    return np.array(rows[::-1], np.float64).reshape(len(rows), components)


@lru_cache(maxsize=32)
def _codes(components: int, levels: int) -> NDArray[np.int64]:
    return _code(multisets(components, levels), levels)


def _code(descending: State, levels: int) -> NDArray[np.int64]:
    code = np.zeros(len(descending), np.int64)
    for column in descending.T.astype(np.int64):
        code = code * levels + column
    return code


def place(state: State, levels: int) -> NDArray[np.int64]:
    """Index (n,) in `multisets` of states (n, N) in any order of their components."""
    return np.searchsorted(_codes(state.shape[1], levels), _code(-np.sort(-state, axis=1), levels))


def kernel(moves: Array, components: int) -> sparse.csr_array:
    """Transition probabilities (m, m) between multisets when each component moves by `moves` (levels, levels).

    Built one component after another: the law of k components is that of k - 1 with the worst one added.
    """
    levels = len(moves)
    known = np.ones((1, 1))
    for size in range(1, components + 1):
        rows = multisets(size, levels)
        smaller = multisets(size - 1, levels)
        worst, rest = rows[:, 0].astype(int), place(rows[:, 1:], levels)
        grown = np.zeros((len(rows), len(rows)))
        for level in range(levels):
            joined = place(np.column_stack([smaller, np.full(len(smaller), float(level))]), levels)
            grown[:, joined] += moves[worst, level][:, None] * known[rest]
        known = grown
    return sparse.csr_array(known)


def product(moves: Array) -> sparse.csr_array:
    """Transition probabilities between all combinations of levels: the Kronecker product of the components' own."""
    total = sparse.csr_array(moves[0])
    for one in moves[1:]:
        total = sparse.kron(total, sparse.csr_array(one), format="csr")
    return sparse.csr_array(total)
