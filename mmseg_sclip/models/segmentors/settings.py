"""The `test_cfg` entry of a model config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

from ...checks import check_keys
from ...errors import ConfigError
from ...rules import AtLeast, Between, Positive, check_fields, check_value


@dataclass(frozen=True)
class InferenceSettings:
    """How images become labels.

    Attributes:
        mode: 'slide' or 'whole'.
        crop_size: (height, width) of a window in pixels of the network's input.
        stride: (height, width) between windows.
        whole_resize: In whole mode 'direct' goes from patches straight to the original size, 'input' through the
            network's input size.
        logit_scale: Multiplies the cosines; None for heads whose scores are class scores already.
        prob_thd: Probability in 0..1 below which pixels become background; 0 or None for off.
        area_thd: Share of the predicted foreground, in 0..1, that a class must exceed; None for off.
        window_multiple: Sides of windows are padded with zeros, the mean colour, to multiples of this many pixels.
        refine: Configs of `Refinement`s, in the order of their use.
        window_batch: Windows that go through the network at once.
        keep_scores: Attach the class scores as `seg_logits`.
    """

    mode: Literal['slide', 'whole'] = 'slide'
    crop_size: tuple[int, int] = (224, 224)
    stride: tuple[int, int] = (112, 112)
    whole_resize: Literal['direct', 'input'] = 'direct'
    logit_scale: Annotated[float, Positive] | None = 40
    prob_thd: Annotated[float, Between(0, 1)] | None = None
    area_thd: Annotated[float, Between(0, 1)] | None = None
    window_multiple: Annotated[int, AtLeast(1)] = 1
    refine: Sequence[Any] = ()
    window_batch: Annotated[int, AtLeast(1)] = 16
    keep_scores: bool = False

    def __post_init__(self) -> None:
        for key in ('crop_size', 'stride'):
            object.__setattr__(self, key, _pair(f'model.test_cfg.{key}', getattr(self, key)))
        object.__setattr__(self, 'refine', tuple(() if self.refine is None else self.refine))
        check_fields('model.test_cfg', self)
        for i, side in enumerate(('height', 'width')):
            if self.stride[i] > self.crop_size[i]:
                raise ConfigError(
                    f'model.test_cfg.stride is {self.stride} and crop_size {self.crop_size}: a stride beyond the crop '
                    f'leaves pixels uncovered ({side}). Use a stride of at most the crop.'
                )

    @classmethod
    def parse(cls, config: Mapping | InferenceSettings | None) -> InferenceSettings:
        """Check a user's dict and fill in SCLIP's defaults.

        Raises:
            ConfigError: A key is unknown or a value is not allowed.
        """
        if isinstance(config, InferenceSettings):
            return config
        config = dict(config or {})
        check_keys('model.test_cfg', config, [field.name for field in fields(cls)])
        return cls(**config)

    def as_dict(self) -> dict[str, Any]:
        """The values by their names."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def check_background(self, background_index: int | None) -> None:
        """Refuse thresholds where no class is the background.

        Raises:
            ConfigError: A threshold is set.
        """
        for key in ('prob_thd', 'area_thd'):
            value = getattr(self, key)
            if background_index is None and (value if key == 'prob_thd' else value is not None):
                raise ConfigError(
                    f'model.test_cfg.{key} is {value} but decode_head.background_index is None. The threshold would '
                    'send pixels to a class that is not the background, and the numbers would be wrong. Set '
                    'background_index to the class that is the background (0 in VOC21, Context60 and COCO-Object), or '
                    f'{key}=None.'
                )


def _pair(where: str, value: Any) -> tuple[int, int]:
    """(height, width) from such a pair, or from the side of a square."""
    pair = (value, value) if isinstance(value, int) else value
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise ConfigError(f'{where} is {value!r}; it must be (height, width) in pixels.')
    for side in pair:
        check_value(where, side, Annotated[int, AtLeast(1)])
    return tuple(pair)
