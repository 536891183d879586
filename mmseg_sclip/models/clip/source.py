"""One place from which both towers of a CLIP of open_clip are built."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from mmengine.logging import print_log
from mmseg.registry import MODELS
from torch import Tensor, nn

from ...files import file_stamp
from ..pretrained import Pretrained
from ..random_weights import fixed_draw
from ..towers.image import ImageTower
from ..towers.source import TowerSource
from .architecture import check_activation, check_tag, find_architecture
from .config import PRECISIONS, TOWERS, ClipConfig
from .layout import fill, lay_out
from .support import checked_tower, refuse_unsupported
from .text_encoder import ClipTextEncoder
from .tower import VisionTower
from .weights import USUAL_SCALE, fit_weights, read_weights
from .weights_file import pretrained_clip


@MODELS.register_module()
class ClipSource(TowerSource):
    """A CLIP of open_clip that gives memory only to the tower that is asked for.

    The model is laid out without memory, and each tower is filled when it is built: evaluation keeps no text tower.

    Args:
        clip: See `ClipConfig`.

    Raises:
        ConfigError: A setting is wrong, or the architecture cannot work.
        MissingFileError: The description of the model is missing or cannot be downloaded.
        BadFileError: The description of the model cannot be used.
    """

    def __init__(self, **clip: Any) -> None:
        self.config = ClipConfig.parse(clip)
        self.architecture = find_architecture(self.config)
        self.check_architecture()
        # In thousandths, as the configs of this family write it: PAMR compares differences of rounding in flat
        # regions, so inputs must equal the official code's to the last bit.
        mean, std = (
            tuple(round(255 * value, 3) for value in values)
            for values in (self.architecture.mean, self.architecture.std)
        )
        super().__init__(self.config.model_name, mean, std, self.config.precision)
        self.unrounded = tuple(
            tuple(255 * value for value in values) for values in (self.architecture.mean, self.architecture.std)
        )
        self._state: dict[str, Tensor] | None = None
        self._logit_scale: float | None = None
        self._stamp: list[int] | None = None  # of the weights file when it was first read

    @property
    def pretrained(self) -> Pretrained | None:
        """See `TowerSource`."""
        return pretrained_clip(self.config)

    @cached_property
    def weights(self) -> Path | None:  # type: ignore[override]
        """The file with the weights, fetched where it must be; None for random weights.

        Raises:
            ConfigError: The architecture has another activation than the weights of the tag.
            MissingFileError: There is none, or it cannot be fetched.
        """
        check_tag(self.config, self.architecture)
        return None if self.pretrained is None else self.pretrained.fetch()

    def weights_identity(self) -> dict[str, Any]:
        """As in the base, with the name of the architecture and that of the weights."""
        names = (self.config.model_name, self.config.pretrained)
        return {**super().weights_identity(), 'name': ', '.join(filter(None, names))}

    def check_architecture(self) -> None:
        """Refuse a description whose image tower is of another kind than this source gives; needs no model.

        Raises:
            ConfigError: It is.
        """
        refuse_unsupported(self.architecture.name, self.architecture.model)

    def checked_visual(self, visual: nn.Module) -> Any:
        """What open_clip made of the description, which must be of the kind that this source gives.

        Raises:
            ConfigError: It is another one.
        """
        return checked_tower(self.architecture.name, visual)

    def build_image_tower(self, positions: str) -> ImageTower:
        """The errors are those of `visual`."""
        return VisionTower(self.visual, positions)

    def empty_image_tower(self, positions: str = 'scale') -> ImageTower:
        """On the meta device; the errors are those of `empty_visual`."""
        return VisionTower(self.empty_visual(), positions)

    def build_text_encoder(self) -> ClipTextEncoder:
        """The text tower with its tokenizer."""
        return ClipTextEncoder(self)

    def empty_visual(self) -> Any:
        """The image tower as open_clip makes it, on the meta device; needs no weights.

        Raises:
            ConfigError: It is not a Vision Transformer with a class token.
        """
        model = lay_out(self.architecture, self.config, 'image')
        return self.checked_visual(model.visual).eval().requires_grad_(False)

    @cached_property
    def visual(self) -> Any:
        """The image tower as open_clip makes it, with its weights, frozen, in `clip.precision`.

        Raises:
            ConfigError: It is not a Vision Transformer with a class token, or its activation is not that of the
                weights.
            MissingFileError: There are no such weights.
            BadFileError: The weights are damaged or do not fit.
        """
        for key in ('activation', 'norm_eps'):
            for tower in TOWERS:
                value = self.config.override(key, tower)
                if value is not None:
                    print_log(f'clip.{key}: the {tower} tower runs with {value} on purpose.', logger='current')
        model = lay_out(self.architecture, self.config, 'image')
        weights = self._weights(model)
        state = {key.removeprefix('visual.'): weights[key] for key in weights if key.startswith('visual.')}
        return fill(self.checked_visual(model.visual), state, PRECISIONS[self.config.precision])

    def text_tower(self) -> nn.Module:
        """An open_clip model of which only the text side has memory: `encode_text` works, nothing else.

        The errors are those of `visual`.
        """
        model = lay_out(self.architecture, self.config, 'text')
        state = {key: value for key, value in self._weights(model).items() if not key.startswith('visual.')}
        model.visual = nn.Identity()
        model.logit_scale, model.logit_bias = None, None
        return fill(model, state, PRECISIONS[self.config.precision])

    def unchanged_weights(self) -> Path | None:
        """The file of the weights; None for random ones, and where it has changed since it was first looked at."""
        path = self.weights
        now = None if path is None else file_stamp(path)
        self._stamp = self._stamp or now
        return path if now is not None and now == self._stamp else None

    def logit_scale(self) -> float:
        """What cosines were multiplied with in training: 100 in OpenAI's weights, and for random ones."""
        if self._logit_scale is None:
            self.state()
        assert self._logit_scale is not None
        return self._logit_scale

    def release(self) -> None:
        """Forget the weights read so far; they are read again if a tower is built later. Random ones are kept."""
        if self.weights is not None:
            self._state = None

    def random_weights(self) -> dict[str, Tensor]:
        """A state dict under the model's names, as open_clip initialises it."""
        with fixed_draw():
            state = lay_out(self.architecture, self.config, 'image', 'cpu').state_dict()
        return fit_weights('random', state, state, self.architecture.name)

    def state(self) -> dict[str, Tensor]:
        """The weights of both towers under the model's names; the errors are those of `visual`."""
        return self._weights(lay_out(self.architecture, self.config, 'image'))

    def _weights(self, model: nn.Module) -> dict[str, Tensor]:
        """The state dict under the model's names; random where no weights were asked for."""
        if self._state is not None:
            return self._state
        path = self.weights
        if path is None:
            print_log(
                f'{self.architecture.name} has RANDOM WEIGHTS because clip.pretrained is None: every '
                "prediction will be meaningless. Set clip=dict(pretrained='openai') or give a file.",
                logger='current',
                level=30,
            )
            self._state, self._logit_scale = self.random_weights(), USUAL_SCALE
        else:
            self._stamp = self._stamp or file_stamp(path)
            weights = read_weights(path)
            self._logit_scale = weights.logit_scale
            check_activation(self.config, self.architecture, path, weights.from_openai)
            self._state = fit_weights(path, weights.state_dict, model.state_dict(), self.architecture.name)
        return self._state
