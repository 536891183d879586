"""LPOSS: the scores of all patches of an image spread over a graph of the patches that a second network finds alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import torch
from mmseg.registry import MODELS
from torch import Tensor
from torch.nn import functional as F

from ....rules import AtLeast
from ...image.windows import Place
from ...precision import without_autocast
from ...steps import Propagation
from ...tokens import Tokens
from .solver import inverse_root, propagate

_SIMILARITIES = 1 << 22  # of patches, in memory at once


@MODELS.register_module()
class PatchPropagation(Propagation):
    """Patches of all windows of an image take over the scores of the nearest patches (LPOSS, CVPR 2025, section 3.2).

    Each patch has ties to those whose features are nearest to its own, weaker the farther they lie apart in the image.
    Scores come back on the grid of the second network. Any method's scores may be spread.

    Args:
        companion: The name in `model.companions` of the network whose features are compared; the paper's is DINO's
            ViT-B/16.
        features: Which of its features; the paper takes the values of the last attention.
        neighbours: How many patches a patch has ties to, itself among them; of an image with fewer patches all.
        sharpness: The power of a cosine in the weight of a tie; negative cosines count as 0.
        decay: How fast ties fade: their weight falls by the factor e over 1 / decay pixels of the network's input.
    """

    def __init__(
        self,
        companion: str = 'dino',
        features: str = 'values',
        neighbours: Annotated[int, AtLeast(1)] = 400,
        sharpness: Annotated[float, AtLeast(0)] = 3.0,
        decay: Annotated[float, AtLeast(0)] = 0.01,
    ) -> None:
        super().__init__()
        self.companion = companion
        self.companions = frozenset({companion})
        self.features = features
        self.neighbours = neighbours
        self.sharpness = sharpness
        self.decay = decay

    @torch.no_grad()
    def forward(self, scores: Tensor, tokens: Tokens) -> Tensor:
        """See `Propagation.forward`; the result is on the companion's grid: (windows, P, h', w')."""
        record = tokens.record
        assert record is not None
        seen = record.companion(self.companion).get(self.features)  # (windows, C, h', w')
        size = seen.shape[-2:]
        with without_autocast(scores.device):
            if scores.shape[-2:] != size:
                scores = F.interpolate(scores, size, mode='bilinear', align_corners=False)
            # In float64, so that rounding does not decide which patches are the nearest.
            features = F.normalize(seen.double().permute(0, 2, 3, 1).flatten(0, 2), dim=1)
            places = [record.source(window)[1] for window in range(len(seen))]
            graph = self.graph(features, patch_centres(places, size).to(scores)).normalised()
            spread = propagate(graph.times, scores.permute(0, 2, 3, 1).flatten(0, 2).contiguous())
            return spread.view(len(scores), *size, -1).permute(0, 3, 1, 2)

    def graph(self, features: Tensor, centres: Tensor) -> Graph:
        """The graph of n patches.

        Args:
            features: (n, C), unit norm, float64.
            centres: (n, 2), where the patches lie, in pixels.
        """
        count = len(features)
        nearest, step = min(self.neighbours, count), max(1, _SIMILARITIES // count)
        columns = torch.empty(count, nearest, dtype=torch.int32, device=features.device)
        weights = torch.empty(count, nearest, device=features.device)
        for first in range(0, count, step):
            rows = slice(first, first + step)
            cosines, others = (features[rows] @ features.T).topk(nearest, sorted=False)
            apart = (centres[rows, None] - centres[others]).square_().sum(dim=2).sqrt_()
            weight = cosines.float().clamp_(min=0).pow_(self.sharpness).mul_(apart.mul_(-self.decay).exp_())
            own = torch.arange(count, device=features.device)[rows, None]
            weights[rows] = weight.masked_fill_(others == own, 0)
            columns[rows] = others
        return Graph.undirected(columns, weights)


@dataclass(frozen=True, eq=False)
class Graph:
    """An undirected graph of n nodes, as the non-zero entries of its symmetric matrix W, row by row.

    Attributes:
        columns: (E,), int32, the column of each entry; entries of one place add up.
        weights: (E,).
        starts: (n + 1,), int32, where each row begins, and the end.
        rows: (E,), int32, the row of each entry.
    """

    columns: Tensor
    weights: Tensor
    starts: Tensor
    rows: Tensor

    @classmethod
    def undirected(cls, columns: Tensor, weights: Tensor) -> Graph:
        """V + V^T of a matrix V with k entries in each row, so that ties that go both ways count twice.

        Args:
            columns: (n, k), int32.
            weights: (n, k).
        """
        nodes = torch.arange(len(columns) + 1, dtype=torch.int32, device=columns.device)
        own = nodes[:-1].repeat_interleave(columns.shape[1])
        ends = torch.cat([columns.flatten(), own])
        rows, order = torch.cat([own, columns.flatten()]).sort(stable=True)
        return cls(
            ends[order], weights.flatten().repeat(2)[order], torch.searchsorted(rows, nodes, out_int32=True), rows
        )

    @property
    def degree(self) -> Tensor:
        """(n,): the sum of the weights of each row."""
        return self.times(self.weights.new_ones(len(self.starts) - 1, 1))[:, 0]

    def normalised(self) -> Graph:
        """D^-1/2 W D^-1/2, with the degrees in D."""
        scale = inverse_root(self.degree)
        return replace(self, weights=self.weights * scale[self.rows] * scale[self.columns])

    def times(self, values: Tensor) -> Tensor:
        """W @ values, both (n, K)."""
        return F.embedding_bag(
            self.columns,
            values,
            self.starts,
            mode='sum',
            per_sample_weights=self.weights,
            include_last_offset=True,
        )


def patch_centres(places: Sequence[Place], grid: Sequence[int]) -> Tensor:
    """Where patches lie: (windows * rows * columns, 2), y and x in pixels of the network's input, float32.

    Args:
        places: Of the windows of an image.
        grid: (rows, columns) of patches in each.
    """

    def along(span: tuple[int, int], padding: tuple[int, int], count: int) -> Tensor:
        start, stop = span[0] - padding[0], span[1] + padding[1]
        return start + (torch.arange(count) + 0.5) * ((stop - start) / count)

    each = [
        torch.cartesian_prod(
            along(place.rows, place.padding[0], grid[0]), along(place.columns, place.padding[1], grid[1])
        )
        for place in places
    ]
    return torch.cat(each)
