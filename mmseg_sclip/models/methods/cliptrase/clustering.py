"""Clusters of points by density, without a loop over points."""

import torch
from torch import Tensor


def dbscan(points: Tensor, eps: float, min_points: int) -> Tensor:
    """DBSCAN (Ester et al., 1996) with Euclidean distances.

    A point with `min_points` points within `eps`, itself included, is a core point. Core points within `eps` of each
    other are of one cluster; any other point within `eps` of a core point belongs to the first cluster that has one.

    Args:
        points: (n, d). Distances are computed in float64, since a cluster hangs on which are below `eps`.
        eps: Largest distance of neighbours, itself included.
        min_points: Points that make a core point.

    Returns:
        (n,), int64: clusters from 0 on in the order of their first core point; -1 for points of none.
    """
    number = len(points)
    points = points.double()
    points = points - points.mean(dim=0)
    squares = points.square().sum(dim=1)
    near = squares[:, None] + squares - 2 * points @ points.T <= eps**2  # (n, n)
    near.fill_diagonal_(True)
    core = near.sum(dim=1) >= min_points
    reach = near & core  # [i, j]: j is a core point near i
    # Each core point takes the smallest number among its core neighbours, and then that point's own number, so that
    # numbers travel in ever longer steps. In the end it is that of the cluster's first core point.
    first = torch.arange(number, device=points.device)
    while True:
        lowest = torch.where(reach, first, number).amin(dim=1)  # `number` where no core point is near
        jumped = torch.where(core, first[lowest.clamp(max=number - 1)], first)
        if torch.equal(jumped, first):
            break
        first = jumped
    labels = lowest.unique(return_inverse=True)[1]
    return labels.masked_fill_(lowest == number, -1)
