"""Balancing of attention maps."""

from torch import Tensor


def sinkhorn(matrix: Tensor, rounds: int = 1) -> Tensor:
    """Divide the columns by their sums, then the rows by theirs, several times (Sinkhorn and Knopp, 1967).

    Args:
        matrix: (..., N, N), positive.
        rounds: How often.

    Returns:
        (..., N, N), whose rows sum to 1, and whose columns do nearly.
    """
    for _ in range(rounds):
        matrix = matrix / matrix.sum(dim=-2, keepdim=True)
        matrix = matrix / matrix.sum(dim=-1, keepdim=True)
    return matrix
