"""Where the two towers of a model come from: an image tower and a text encoder of one space."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...checks import build_strategy
from ...errors import ConfigError
from ...files import file_hash
from ...paths import cache_root
from ..pretrained import Pretrained

if TYPE_CHECKING:
    from ..text.encoder import TextEncoder
    from .image import ImageTower

OPEN_CLIP = 'ClipSource'  # the `type` of a `model.clip` that names none


class TowerSource:
    """The base of all sources of towers: registered classes that `model.clip` names by their `type`.

    Making a source costs nothing: weights are looked for, and fetched where they must be, when the first tower is
    built. Segmentors that get the same source share its towers. A kind of source sets the attributes below and writes
    `build_image_tower`, `empty_image_tower` and `build_text_encoder`.

    Args:
        name: What titles call the model.
        mean: Mean of the images in RGB that the image tower expects, for values in 0..255.
        std: Their standard deviation.
        precision: Of the weights: 'fp32', 'fp16' or 'bf16'.

    Attributes:
        weights: The file with the weights of both towers, fetched where it must be; None for random ones.
        unrounded: `mean` and `std` with all their digits.
    """

    weights: Path | None = None
    unrounded: tuple[tuple[float, ...], ...]

    def __init__(self, name: str, mean: tuple[float, ...], std: tuple[float, ...], precision: str = 'fp32') -> None:
        self.name = name
        self.mean = mean
        self.std = std
        self.unrounded = (mean, std)
        self.precision = precision
        self._image_towers: dict[str, ImageTower] = {}
        self._text_encoder: TextEncoder | None = None

    @property
    def pretrained(self) -> Pretrained | None:
        """The weights of both towers, which need not be there; None for random ones."""
        return None

    @property
    def all_pretrained(self) -> dict[str, Pretrained]:
        """All files of weights that it needs, by what `--weights NAME=FILE` calls them.

        `clip` is `pretrained`; a source of several files adds the others, each with its key in `model.clip` as
        `setting`, such as 'model.clip.references'.
        """
        return {} if self.pretrained is None else {'clip': self.pretrained}

    def build_image_tower(self, positions: str) -> ImageTower:
        """The image tower with its weights, frozen.

        Args:
            positions: How its positional table is fitted to other grids, one of `POSITION_RULES`. Towers that differ
                in this alone should share their weights.
        """
        raise NotImplementedError(f'{type(self).__name__} must define build_image_tower(positions).')

    def empty_image_tower(self, positions: str = 'scale') -> ImageTower:
        """The image tower on the meta device: shapes without memory and without weights, to count what it costs."""
        raise NotImplementedError(f'{type(self).__name__} must define empty_image_tower(positions).')

    def build_text_encoder(self) -> TextEncoder:
        """The text encoder; its weights are read when the first phrase is encoded."""
        raise NotImplementedError(f'{type(self).__name__} must define build_text_encoder().')

    def image_tower(self, positions: str = 'scale') -> ImageTower:
        """The image tower of a positional rule, always the same one."""
        if positions not in self._image_towers:
            tower = self._image_towers[positions] = self.build_image_tower(positions)
            tower.mean, tower.std, tower.unrounded = self.mean, self.std, self.unrounded
        return self._image_towers[positions]

    def text_encoder(self) -> TextEncoder:
        """The text encoder, always the same one."""
        if self._text_encoder is None:
            self._text_encoder = self.build_text_encoder()
        return self._text_encoder

    def weights_identity(self) -> dict[str, Any]:
        """What results and fingerprints say of the weights; JSON types.

        Returns:
            `name`, `precision`, and `sha256` of their content, None for random ones; where there are further files
            `files`, the `name` and `sha256` of each by what `--weights` calls it.
        """
        path = self.weights
        content = None if path is None else file_hash(path, cache_root() / 'file_hashes.json')
        further = {name: file.identity() for name, file in self.all_pretrained.items() if name != 'clip'}
        identity = dict(name=self.name, precision=self.precision, sha256=content)
        return {**identity, 'files': further} if further else identity


def build_source(clip: Mapping[str, Any] | TowerSource | None, owner: str) -> TowerSource:
    """The source that `model.clip` names; a source is returned as it is.

    Args:
        clip: Without a `type` it is open_clip's.
        owner: Who needs it, for messages.

    Raises:
        ConfigError: There is none, or one of its settings is wrong.
    """
    example = "dict(model_name='ViT-B-16-quickgelu', pretrained='openai')"
    if clip is None:
        raise ConfigError(
            f'{owner} has no CLIP. Give it clip={example}, or put that into the SCLIPSegmentor, which hands it on.'
        )
    if isinstance(clip, TowerSource):
        return clip
    if not isinstance(clip, Mapping):
        raise ConfigError(f'model.clip must be a dict such as {example}, but is {clip!r}.')
    return build_strategy('model.clip', {'type': OPEN_CLIP, **clip}, TowerSource)
