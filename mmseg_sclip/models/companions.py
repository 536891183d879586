"""Second networks that look at the same windows as CLIP."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from .record import Record


@dataclass
class Features:
    """What a companion sees of a batch of windows.

    Attributes:
        map: (B, C, h, w), on the companion's own grid.
    """

    map: Tensor


class Companion(nn.Module):
    """A frozen network beside CLIP, named in `model.companions`; parts read it with `record.companion(name)`.

    A kind of companion derives from this class, registers itself with `mmseg.registry.MODELS`, and writes `features`.

    Attributes:
        mean: Mean of the images that it was trained with, in RGB, for values in 0..255.
        std: Their standard deviation.
    """

    mean: tuple[float, ...] = (123.675, 116.28, 103.53)
    std: tuple[float, ...] = (58.395, 57.12, 57.375)

    def features(self, images: Tensor) -> Features:
        """What it sees of windows (B, 3, H, W), which are normalised with its own mean and std."""
        raise NotImplementedError(f'{type(self).__name__} must define features(images).')

    def forward(self, record: Record) -> Features:
        """What it sees of the windows of a record."""
        images, tower = record.images.float(), record.tower
        ours, theirs = (
            [images.new_tensor(values).view(3, 1, 1) for values in (network.mean, network.std)]
            for network in (self, tower)
        )
        return self.features((images * theirs[1] + theirs[0] - ours[0]) / ours[1])
