"""Connected components of graphs."""

from __future__ import annotations

import numpy as np


def components(first: np.ndarray, second: np.ndarray, number: int) -> np.ndarray:
    """The component of each node: (number,), int64, from 0 on in the order of their first nodes.

    Args:
        first: (edges,), a node of each edge.
        second: (edges,), the other one.
        number: Of the nodes.
    """
    from scipy.sparse import coo_matrix  # its graphs are slow to import
    from scipy.sparse.csgraph import connected_components

    graph = coo_matrix((np.ones(len(first), bool), (first, second)), shape=(number, number))
    return connected_components(graph, directed=False)[1].astype(np.int64)
