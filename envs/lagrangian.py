"""Maintenance relaxed to single components (Whittle 1988; Hawkins 2003): a proven bound, and what a service is worth.

Serving at most K components costs the set-up once. Charging λ for each service instead of counting them splits the
system: for every λ >= 0 the average cost is at least Σ_i g_i(λ) + min(0, setup - λ K), g_i being the optimum of
component i alone when each service costs λ more.
"""

from dataclasses import dataclass

import numpy as np

from envs.dynamics import Array
from envs.maintenance import Maintenance

_GOLDEN = (np.sqrt(5.0) - 1.0) / 2.0
_MAX_IMPROVEMENTS = 200


@dataclass(frozen=True, eq=False)
class Relaxed:
    """The components solved one by one at a charge for each service.

    Args:
        charge: λ, money per service.
        gains: (N,) average cost of each component.
        biases: (N, levels) relative cost of starting at a level, 0 at level 0.
        benefits: (N, levels) what servicing now saves against waiting, the charge not counted.
    """

    charge: float
    gains: Array
    biases: Array
    benefits: Array


def relaxed(world: Maintenance, charge: float) -> Relaxed:
    """Each component alone at this charge, by policy iteration (Howard 1960), all components at once."""
    p = world.params
    moves = world.moves()
    n, levels = moves.shape[:2]
    failed = np.arange(levels) == levels - 1
    keep = np.where(failed, p.downtime_cost, 0.0)
    service = np.where(failed, p.corrective_cost, p.preventive_cost) + charge
    serviced = np.broadcast_to(failed, (n, levels))
    for _ in range(_MAX_IMPROVEMENTS):
        kernel = np.where(serviced[:, :, None], moves[:, :1, :], moves)
        cost = np.where(serviced, service, keep)
        # Unknowns: the bias of levels 1.., and in place of that of level 0 (which is 0) the gain.
        system = np.eye(levels) - kernel
        system[:, :, 0] = 1.0
        solved = np.asarray(np.linalg.solve(system, cost[:, :, None])[:, :, 0], np.float64)
        gains, biases = solved[:, 0].copy(), solved
        biases[:, 0] = 0.0
        waiting = keep + np.einsum("nij,nj->ni", moves, biases)
        renewed = service + np.einsum("nj,nj->n", moves[:, 0], biases)[:, None]
        better = renewed < waiting - 1e-12
        if np.array_equal(better, serviced):
            break
        serviced = better
    return Relaxed(charge, gains, biases, np.asarray(waiting - (renewed - charge), np.float64))


def best_charge(world: Maintenance) -> Relaxed:
    """The charge that proves the highest bound; the bound is concave in it."""
    p = world.params
    low, high = 0.0, float(p.setup_cost) / p.crews + float(p.corrective_cost) + p.levels * float(p.downtime_cost)
    for _ in range(70):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        if bound_at(world, relaxed(world, left)) >= bound_at(world, relaxed(world, right)):
            high = right
        else:
            low = left
    # Where the set-up is shared by all crews the bound has a corner, often its top.
    tried = [relaxed(world, charge) for charge in ((low + high) / 2.0, float(p.setup_cost) / p.crews)]
    return max(tried, key=lambda r: bound_at(world, r))


def bound_at(world: Maintenance, found: Relaxed) -> float:
    """The lower bound of the average cost that one charge proves."""
    p = world.params
    return float(found.gains.sum() + min(0.0, float(p.setup_cost) - found.charge * p.crews))


def cost_bound(world: Maintenance) -> float:
    """The best such lower bound of the average cost."""
    return bound_at(world, best_charge(world))
