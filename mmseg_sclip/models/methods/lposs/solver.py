"""What both propagations of LPOSS solve: a linear system of a graph, by a few steps of conjugate gradient."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_ALPHA = 0.95  # how much of a node's result comes from its neighbours
_STEPS = 10  # of conjugate gradient; it has hardly ever converged by then, so their number is part of the method
_TOLERANCE = 1e-6  # of the residual, relative to the right-hand side


def inverse_root(degree: Tensor) -> Tensor:
    """The root of a degree, inverted, and 0 where a node has no neighbour, which keeps what it has."""
    return torch.where(degree > 0, degree.rsqrt(), 0)


def propagate(times_graph: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
    """Solve (I - 0.95 W) F = Y roughly, for F: each node takes over what its neighbours have.

    Columns do not look at each other. The official code works in float64, which changes the seventh digit.

    Args:
        times_graph: From (n, K) to W @ it, a new tensor; W (n, n) is symmetric and normalised.
        values: (n, K), Y; not changed.

    Returns:
        (n, K).
    """
    found = torch.zeros_like(values)
    residual, direction, scratch = values.clone(), values.clone(), torch.empty_like(values)

    def dot(x: Tensor, y: Tensor) -> Tensor:
        return torch.mul(x, y, out=scratch).sum(dim=0)

    square = dot(residual, residual)
    enough = _TOLERANCE**2 * square
    for _ in range(_STEPS):
        product = times_graph(direction).mul_(-_ALPHA).add_(direction)
        goes_on = square > enough
        length = torch.where(goes_on, square / dot(direction, product), 0)
        found.addcmul_(length, direction)
        residual.addcmul_(length, product, value=-1)
        before, square = square, dot(residual, residual)
        direction.mul_(torch.where(goes_on, square / before, 0)).add_(residual)
    return found
