"""One place from which both towers of a CLIP are built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmengine.logging import print_log
from torch import Tensor, nn

from ...compat import open_clip
from ...errors import ConfigError
from ...files import file_stamp
from ...paths import cache_root
from .architecture import Architecture, check_activation, find_architecture
from .config import PRECISIONS, TOWERS, ClipConfig
from .identity import text_identity
from .layout import fill, lay_out
from .support import checked_tower
from .tokenizer import build_tokenizer
from .weights import USUAL_SCALE, fit_weights, read_weights
from .weights_file import find_weights

if TYPE_CHECKING:
    from .tower import VisionTower


class ClipSource:
    """A CLIP that gives memory only to the tower that is asked for.

    The model is laid out without memory, and each tower is filled when it is built: evaluation keeps no text tower.
    The segmentor makes one source and hands it to its backbone and its head. Weights are looked for, and fetched
    where they must be, when the first tower is built.

    Args:
        clip: The `clip` entry of a model config, see `ClipConfig`.

    Attributes:
        towers: `VisionTower`s that were made of it, by their positional rule; segmentors of one source share them.

    Raises:
        ConfigError: A setting is wrong, or the architecture cannot work.
        MissingFileError: The description of the model is missing or cannot be downloaded.
        BadFileError: The description of the model is none.
    """

    def __init__(self, clip: Mapping[str, Any]) -> None:
        self.config = ClipConfig.parse(clip)
        self.architecture: Architecture = find_architecture(self.config)
        self.towers: dict[str, VisionTower] = {}
        self._state: dict[str, Tensor] | None = None
        self._logit_scale: float | None = None
        self._stamp: list[int] | None = None  # of the weights file when it was first read
        self._identity: dict[str, Any] | None = None
        for key in ('activation', 'norm_eps'):
            for tower in TOWERS:
                value = self.config.override(key, tower)
                if value is not None:
                    print_log(f'clip.{key}: the {tower} tower runs with {value} on purpose.', logger='current')

    @classmethod
    def of(cls, clip: Mapping[str, Any] | ClipSource | None, owner: str) -> ClipSource:
        """`clip` itself where it is a source already, else a new one.

        Raises:
            ConfigError: There is none; `owner` names who needs it.
        """
        if clip is None:
            raise ConfigError(
                f"{owner} has no CLIP. Give it clip=dict(model_name='ViT-B-16-quickgelu', "
                "pretrained='openai'), or put that into the SCLIPSegmentor, which hands it on."
            )
        return clip if isinstance(clip, ClipSource) else cls(clip)

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of the images in RGB, for values in 0..255, in thousandths as the configs of this family write it.

        PAMR compares differences of rounding in flat regions, so inputs must equal the official code's to the last bit.
        """
        return tuple(round(255 * value, 3) for value in self.architecture.mean)

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of the images in RGB; see `mean`."""
        return tuple(round(255 * value, 3) for value in self.architecture.std)

    @cached_property
    def weights(self) -> Path | None:
        """The file with the weights, fetched where it must be; None for random weights.

        Raises:
            MissingFileError: There is none, or it cannot be fetched.
        """
        return find_weights(self.config)

    def image_tower(self) -> open_clip.transformer.VisionTransformer:
        """The image tower with its weights, frozen, in `clip.precision`.

        Raises:
            ConfigError: It is no Vision Transformer with a class token, or its activation is not that of the weights.
            MissingFileError: There are no such weights.
            BadFileError: The weights are damaged or do not fit.
        """
        model = lay_out(self.architecture, self.config, 'image')
        weights = self._weights(model)
        state = {key.removeprefix('visual.'): weights[key] for key in weights if key.startswith('visual.')}
        return fill(checked_tower(self.architecture.name, model.visual), state, PRECISIONS[self.config.precision])

    def empty_image_tower(self) -> open_clip.transformer.VisionTransformer:
        """The image tower on the meta device: shapes without memory, to count what it costs; needs no weights.

        Raises:
            ConfigError: It is no Vision Transformer with a class token.
        """
        model = lay_out(self.architecture, self.config, 'image')
        return checked_tower(self.architecture.name, model.visual).eval().requires_grad_(False)

    def text_tower(self) -> nn.Module:
        """An open_clip model of which only the text side has memory: `encode_text` works, nothing else.

        The errors are those of `image_tower`.
        """
        model = lay_out(self.architecture, self.config, 'text')
        state = {key: value for key, value in self._weights(model).items() if not key.startswith('visual.')}
        model.visual = nn.Identity()
        model.logit_scale, model.logit_bias = None, None
        return fill(model, state, PRECISIONS[self.config.precision])

    @property
    def reads_english(self) -> bool:
        """Whether the tokenizer is CLIP's own, which was made for English."""
        return not self.architecture.model['text_cfg'].get('hf_tokenizer_name')

    def tokenizer(self) -> Callable[..., Tensor]:
        """The tokenizer of the architecture, with its context length."""
        return build_tokenizer(self.config, self.architecture)

    def text_cache(self) -> Path:
        """The folder of encoded phrases."""
        root = self.config.cache_dir
        return (cache_root() if root is None else Path(root).expanduser()) / 'text_banks'

    def text_identity(self) -> dict[str, Any] | None:
        """What encoded phrases depend on, without the templates.

        None where they cannot be kept: random weights, and a file that has changed since it was read.
        """
        path = self.weights
        now = None if path is None else file_stamp(path)
        self._stamp = self._stamp or now
        if path is None or now is None or now != self._stamp:
            return None
        if self._identity is None:
            memory = self.text_cache() / 'file_hashes.json'
            self._identity = text_identity(self.config, self.architecture, path, memory)
        return self._identity

    def logit_scale(self) -> float:
        """What cosines were multiplied with in training: 100 in OpenAI's weights, and for random ones."""
        if self._logit_scale is None:
            self._weights(lay_out(self.architecture, self.config, 'image'))
        assert self._logit_scale is not None
        return self._logit_scale

    def release(self) -> None:
        """Forget the weights read so far; they are read again if a tower is built later."""
        if self.weights is not None:
            self._state = None

    def random_weights(self) -> dict[str, Tensor]:
        """A state dict under the model's names, as open_clip initialises it."""
        state = lay_out(self.architecture, self.config, 'image', 'cpu').state_dict()
        return fit_weights('random', state, state, self.architecture.name)

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
