"""Trident's step between windows and scores: splice, then segment (Shi et al., ICCV 2025, arXiv 2411.09219)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import cv2
import numpy as np
import torch
from mmseg.registry import MODELS
from torch import Tensor

from ....errors import ConfigError
from ....images import ORIGINAL
from ....rules import Between
from ...image.colours import original_colours
from ...image.geometry import Axis, image_axes
from ...precision import without_autocast
from ...record import Record, Source
from ...steps import Stitch
from ...tokens import Tokens
from .affinity import segment_affinity
from .canvas import splice_matrix
from .decoder import UnprojectedTokens

_PATCH = 16  # of SAM, to multiples of which the official code brings the image first


@MODELS.register_module()
class SpliceThenSegment(Stitch):
    """One map of the image from its windows, aggregated along the attention of SAM.

    The windows' unprojected tokens are averaged on one canvas over the image, and the canvas is resized bilinearly to
    SAM's grid. There each cell takes the mean of the cells that SAM's last block attends to and finds alike:
    G = normalised mean over heads of B_h where C_h > theta, C_h the cosines of a head's values,
    theta = min(cos_fac * mean over heads and keys of C, 0.9) for each query. Then follow CLIP's final LayerNorm and
    projection (section 3.3).

    SAM sees the image as it was loaded, where the test pipeline has a `KeepOriginal`; otherwise the network's input.

    Args:
        companion: The name of a second network in `model.companions` that says how cells of an image relate.
        cos_fac: Factor of theta. Trident takes 1.2, for VOC20 0 and for Cityscapes 3.
        most: The largest theta.
        refine_neg_cos: Leave a negative theta as it is; otherwise it becomes 0.6.
        halves: Let SAM see the left and the right half of the image apart, so that its cells are smaller; cells of
            different halves are then not related. Trident does this for Cityscapes.
    """

    takes = UnprojectedTokens
    joins = True

    def __init__(
        self,
        companion: str = 'sam',
        cos_fac: float = 1.2,
        most: Annotated[float, Between(0, 1)] = 0.9,
        refine_neg_cos: bool = True,
        halves: bool = False,
    ) -> None:
        super().__init__()
        self.companion = companion
        self.companions = frozenset({companion})
        self.cos_fac = cos_fac
        self.most = most
        self.negative = None if refine_neg_cos else 0.6
        self.halves = halves

    def forward(self, tokens: UnprojectedTokens) -> Tokens:  # type: ignore[override]
        """One map (1, h * w, D) of the image, on SAM's grid."""
        record, stream = tokens.record, tokens.stream
        assert record is not None
        tower = record.tower
        with without_autocast(stream.device):
            grid, segmented = self.segmented(record, stream.float(), tokens.grid)
        with tower.own_precision(stream.device):
            return Tokens(tower.project(segmented.to(stream.dtype)[None]), None, grid)

    def segmented(self, record: Record, stream: Tensor, grid: tuple[int, int]) -> tuple[tuple[int, int], Tensor]:
        """SAM's grid (h, w), and G times the canvas on it: (h * w, width), before the final LayerNorm.

        Args:
            record: Of all windows of an image.
            stream: (windows, n, width), float32.
            grid: Of a window.
        """
        source, _ = record.source(0)
        axes = image_axes(source.image.shape[-2:], source.meta)
        parts = []
        for image in self._parts(original_image(source, record.normaliser, axes)):
            relations = record.companions[self.companion].relations(image.to(stream.device))
            parts.append((relations.grid, segment_affinity(relations, self.cos_fac, self.most, self.negative)))
        height, widths = parts[0][0][0], [width for (_, width), _ in parts]
        canvas = self._canvas(record, axes, stream.unflatten(1, grid), ([height], widths))
        found = [
            (affinity @ part.flatten(0, 1)).view_as(part)
            for (_, affinity), part in zip(parts, canvas.split(widths, dim=1), strict=True)
        ]
        return (height, sum(widths)), torch.cat(found, dim=1).flatten(0, 1)

    def _parts(self, image: Tensor) -> Iterator[Tensor]:
        """What SAM sees apart, of an image (3, H, W)."""
        middle = image.shape[-1] // 2
        yield from (image[..., :middle], image[..., middle:]) if self.halves else (image,)

    def _canvas(
        self, record: Record, axes: tuple[Axis, Axis], stream: Tensor, cells: tuple[list[int], list[int]]
    ) -> Tensor:
        """(h, w, width): the tokens (windows, rows, columns, width) of the windows, on cells of the image.

        Args:
            record: Of the windows.
            axes: What happened to rows and columns.
            stream: Theirs.
            cells: How many there are in each part of the image, down and across.
        """
        _, place = record.source(0)
        places = [record.source(window)[1] for window in range(len(stream))]
        spans = [sorted({each.rows for each in places}), sorted({each.columns for each in places})]
        rows, columns = (
            splice_matrix(*each).to(stream.device)
            for each in zip(axes, spans, place.padding, stream.shape[1:3], cells, strict=True)
        )
        stream = stream.unflatten(0, (len(spans[0]), len(spans[1])))  # (window rows, window columns, rows, columns, D)
        stream = stream.transpose(1, 2).flatten(0, 1).flatten(1, 2)  # (all rows, all columns, D)
        return torch.einsum('hr,rcd,wc->hwd', rows, stream, columns)


def original_image(source: Source, normaliser: object, axes: tuple[Axis, Axis]) -> Tensor:
    """The image as it was loaded, mirrored as the network's input: (3, H, W), uint8, RGB, sides multiples of 16.

    Where the pipeline has not kept it, it is the network's input without normalisation and padding.

    Args:
        source: The network's input, and the metadata of its sample.
        normaliser: What has the `mean` and `std` of that input.
        axes: What happened to rows and columns.

    Raises:
        ConfigError: What is kept has another size than the image whose pixels are predicted.
    """
    kept = source.meta.get(ORIGINAL)
    if kept is None:
        image = source.image
        for dim, axis in enumerate(axes, 1):
            image = image.narrow(dim, axis.padding[0], axis.without_padding().side)
        colours = original_colours(image, normaliser).round().clamp(0, 255).byte()
        pixels = colours.permute(1, 2, 0).cpu().numpy()
    else:
        pixels, size = kept.rgb, tuple(axis.original for axis in axes)
        if pixels.shape[:2] != size:
            raise ConfigError(
                f'KeepOriginal has kept an image of {pixels.shape[0]} x {pixels.shape[1]} pixels (height x width), but '
                f'predictions have {size[0]} x {size[1]}. Put it behind the steps that cut or turn images, and before '
                'Resize.'
            )
        for dim, axis in enumerate(axes):
            pixels = np.flip(pixels, dim) if axis.flipped else pixels
    height, width = (-(-side // _PATCH) * _PATCH for side in pixels.shape[:2])
    if (height, width) != pixels.shape[:2]:
        pixels = cv2.resize(np.ascontiguousarray(pixels), (width, height), interpolation=cv2.INTER_LINEAR)
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)
