"""The seam of region maps: which pixels of an image belong together, whoever says so."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...errors import BadFileError
from ...images import ORIGINAL
from ..image.colours import original_colours
from ..image.geometry import Axis, image_axes, restore_image
from ..image.windows import Span
from ..record import Record, Source
from .base import Companion, Features

_DENSE = 1 << 24  # numbers below it are counted, larger ones sorted


class RegionMaps(Companion):
    """The base of companions that cut images into regions; a kind of them writes `regions`.

    The regions of an image are found once for all of its windows, and kept with the image.
    """

    def regions(self, source: Source, network: Any) -> Tensor:
        """The regions of an image as it was loaded: (H, W), whole numbers from 0 on; 0 is what no region has.

        Args:
            source: The image; `meta['ori_shape']` begins with (H, W).
            network: What has the `mean` and `std` of the image, such as the normaliser of a record.

        Raises:
            UserError: They cannot be had.
        """
        raise NotImplementedError(f'{type(self).__name__} must define regions(source, network).')

    def of(self, source: Source, network: Any) -> Tensor:
        """The regions of an image, numbered anew from 0 on without gaps, in the same order: (H, W), int64.

        Arguments and errors as in `regions`.
        """
        return source.once(self, lambda: self._numbered(source, network))

    def forward(self, record: Record) -> Features:
        """The regions of windows: a map (B, 1, height, width) of their pixels, int64, in the numbers of `of`.

        The map of the image is brought to the network's input by taking the nearest pixel, flipped and padded as the
        image was, and cut. What was padded is a region of its own, whose number is higher than all others.
        """
        return Features(torch.stack([self._window(record, i) for i in range(len(record.images))])[:, None])

    def _numbered(self, source: Source, network: Any) -> Tensor:
        size = tuple(axis.original for axis in image_axes(source.image.shape[-2:], source.meta))
        if source.image.is_meta:  # costs are counted, without images
            return torch.zeros(size, dtype=torch.int64, device='meta')
        found = self.regions(source, network)
        if tuple(found.shape) != size:
            raise BadFileError(
                f'The regions of {image_name(source)} are {" x ".join(map(str, found.shape))} pixels, but the image is '
                f'{size[0]} x {size[1]} (height x width). Regions are those of the image as it is loaded, not resized.'
            )
        return number_densely(found.to(source.image.device))

    def _window(self, record: Record, window: int) -> Tensor:
        source, place = record.source(window)
        regions = self.of(source, record.normaliser)
        axes = image_axes(source.image.shape[-2:], source.meta)
        spans = zip(axes, (place.rows, place.columns), place.padding, strict=True)
        rows, columns = (_pixels(*each).to(regions.device) for each in spans)
        ids = regions[rows.clamp(min=0)][:, columns.clamp(min=0)]
        return torch.where((rows < 0)[:, None] | (columns < 0), regions.max() + 1, ids)


def number_densely(regions: Tensor) -> Tensor:
    """Whole numbers from 0 on as their ranks among those that are there; of any shape, int64."""
    regions = regions.long()
    if regions.max() >= _DENSE:
        return regions.unique(return_inverse=True)[1]
    ranks = (regions.flatten().bincount() > 0).cumsum(0) - 1
    return ranks[regions]


def nearest(ids: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps (..., H, W) of whole numbers at another size, by the pixel that `interpolate` takes as the nearest."""
    rows, columns = (nearest_pixels(*sides).to(ids.device) for sides in zip(ids.shape[-2:], size, strict=True))
    return ids[..., rows, :][..., columns]


def nearest_pixels(length: int, size: int) -> Tensor:
    """(size,), int64: which of `length` pixels each of `size` pixels takes."""
    places = torch.arange(length, dtype=torch.float64)
    return F.interpolate(places[None, None], size=size, mode='nearest')[0, 0].long()


def image_name(source: Source) -> str:
    """What messages call an image."""
    return str(source.meta.get('img_path') or 'an image without a file')


def pixels_of(source: Source, network: Any) -> Tensor:
    """The image as it was loaded, (3, H, W), uint8, RGB.

    Where the pipeline has not kept it (`KeepOriginal`), it is made of the network's input. Arguments as in
    `RegionMaps.regions`.
    """
    kept = source.meta.get(ORIGINAL)
    if kept is not None:
        return torch.from_numpy(np.ascontiguousarray(kept.rgb)).permute(2, 0, 1)
    axes = image_axes(source.image.shape[-2:], source.meta)
    return restore_image(original_colours(source.image, network), axes).round().clamp(0, 255).byte()


def _pixels(axis: Axis, span: Span, padding: Span) -> Tensor:
    """The pixel of the original side under each pixel of a window's side; -1 where the side was padded."""
    pixels = nearest_pixels(axis.original, axis.side - sum(axis.padding))
    pixels = F.pad(pixels.flip(0) if axis.flipped else pixels, axis.padding, value=-1)
    return F.pad(pixels[slice(*span)], padding, value=-1)
