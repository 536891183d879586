"""Building the parts of a segmentor, and telling at once which of them do not fit together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmseg.models import EncoderDecoder
from mmseg.registry import MODELS
from torch import nn

from ...checks import build_strategy, check_arguments, find_registered
from ...errors import ConfigError
from ..companions.base import Companion, build_companions, load_frozen
from ..data_preprocessor import CLIPDataPreProcessor
from ..decoders.base import Decoder
from ..parts import Part
from ..refinements.base import Refinement
from ..steps import Propagation, Stitch
from ..tokens import Tokens
from ..towers.source import TowerSource
from .settings import InferenceSettings


def check_config(backbone: Mapping, decode_head: Mapping, init_cfg: Mapping | None) -> None:
    """Refuse wrong arguments of what MMSegmentation builds, and a second place for the weights of CLIP.

    Raises:
        ConfigError: With the place.
    """
    for name, part in (('backbone', backbone), ('decode_head', decode_head)):
        if 'clip' in part:
            raise ConfigError(f'model.{name}.clip is set, but both towers come from model.clip. Move it there.')
        if 'type' in part:
            check_arguments(f'model.{name}', find_registered(f'model.{name}', part['type']), part)
    for name, given in (
        ('model', init_cfg),
        ('model.backbone', backbone.get('init_cfg')),
        ('model.decode_head', decode_head.get('init_cfg')),
    ):
        if given is not None:  # a training would write over CLIP, and MMEngine reads files that run code
            raise ConfigError(
                f'{name}.init_cfg is set, but the weights of CLIP are named in model.clip, and a checkpoint on top '
                'of them in load_from. Take it out.'
            )


def build_preprocessor(config: Mapping | nn.Module | None, source: TowerSource) -> nn.Module:
    """The user's preprocessor, or CLIP's own with the mean and std of the loaded weights."""
    if isinstance(config, nn.Module):
        return config
    config = dict(config or dict(type='CLIPDataPreProcessor'))
    if config.get('type') in ('CLIPDataPreProcessor', 'mmseg.CLIPDataPreProcessor', CLIPDataPreProcessor):
        mean, std = source.unrounded if config.get('exact') else (source.mean, source.std)
        config = dict(mean=mean, std=std) | config
        check_arguments('model.data_preprocessor', CLIPDataPreProcessor, config)
    return MODELS.build(config)


def assemble(
    model: EncoderDecoder,
    companions: Mapping[str, Mapping] | None,
    stitch: Mapping | None,
    propagation: Mapping | None,
) -> tuple[nn.ModuleDict, Stitch | None, Propagation | None]:
    """Build the companions and the steps of a segmentor, and bind its parts to the tower.

    Args:
        model: The segmentor, with its backbone and its head.
        companions: See `SCLIPSegmentor`.
        stitch: See `SCLIPSegmentor`.
        propagation: See `SCLIPSegmentor`.

    Raises:
        ConfigError: A part is wrong, or cannot get what it reads.
    """
    networks = nn.ModuleDict(
        {
            name: companion if isinstance((companions or {})[name], Companion) else load_frozen(companion, name=name)
            for name, companion in build_companions(companions).items()
        }
    )
    steps: list[Any] = [
        None if config is None else build_strategy(f'model.{name}', config, base)
        for name, config, base in (('stitch', stitch, Stitch), ('propagation', propagation, Propagation))
    ]
    model.decode_head.check(model.backbone.decoder)
    _check_steps(model.backbone.decoder, model.decode_head, *steps)
    others = [model.decode_head, *filter(None, steps)]
    for part in others:  # the backbone has bound its decoder
        part.bind(model.backbone.tower)
    check_companions([model.backbone.decoder, *others], networks)
    return networks, steps[0], steps[1]


def _check_steps(decoder: Decoder, head: nn.Module, stitch: Stitch | None, propagation: Propagation | None) -> None:
    """Refuse steps over all windows that cannot read what comes before them.

    Raises:
        ConfigError: With the reason.
    """
    if stitch is None:
        return
    name = type(stitch).__name__
    if not issubclass(decoder.gives, stitch.takes):
        raise ConfigError(
            f'{name} reads {stitch.takes.__name__}, but the decoder {type(decoder).__name__} gives '
            f'{decoder.gives.__name__}. Name another decoder in model.backbone.decoder, or another model.stitch.'
        )
    takes = getattr(head, 'takes', Tokens)
    if takes is not Tokens and not issubclass(stitch.takes, takes):
        raise ConfigError(
            f'{name} changes the tokens of patches, but {type(head).__name__} reads more of {takes.__name__}, on which '
            'it would have no effect. Set model.stitch=None, or name another head in model.decode_head.'
        )
    if stitch.joins and propagation is not None:
        raise ConfigError(
            f'{type(propagation).__name__} works on the scores of windows, but {name} makes one map of them. Set '
            'model.stitch or model.propagation to None.'
        )


def check_companions(parts: list[Part], companions: nn.ModuleDict) -> None:
    """Refuse bound parts that read a companion which is not there.

    Raises:
        ConfigError: With its name.
    """
    for part in parts:
        for name in sorted(part.companions):
            if name not in companions:
                raise ConfigError(
                    f"{type(part).__name__} reads the companion '{name}', but model.companions names "
                    f'{", ".join(companions) or "none"}. Add model.companions=dict({name}=dict(type=...)).'
                )


def build_refinements(model: EncoderDecoder, settings: InferenceSettings) -> nn.ModuleList:
    """Build the refinements of settings, and check both against the model.

    Raises:
        ConfigError: They do not fit.
    """
    head = model.decode_head
    settings.check_background(head.background_index)
    if (settings.logit_scale is None) != head.gives_class_scores:
        name = type(head).__name__
        raise ConfigError(
            f'The scores of {name} are class scores already, but model.test_cfg.logit_scale is '
            f'{settings.logit_scale}, which would make probabilities of them once more. Set logit_scale=None, and '
            'thresholds that are meant for these scores.'
            if head.gives_class_scores
            else f'model.test_cfg.logit_scale is None, but the scores of {name} are cosines. Set a positive number.'
        )
    if settings.mode == 'slide':
        _check_slide(model, settings)
    refinements = [build_strategy('An entry of model.test_cfg.refine', entry, Refinement) for entry in settings.refine]
    for index, refinement in enumerate(refinements):
        if refinement.last and any(later.stage == refinement.stage for later in refinements[index + 1 :]):
            raise ConfigError(
                f'{type(refinement).__name__} must be the last entry of model.test_cfg.refine that works on '
                f'{refinement.stage}. Put the others in front of it.'
            )
        if refinement.at_input and any(
            earlier.stage == refinement.stage and not earlier.at_input for earlier in refinements[:index]
        ):
            raise ConfigError(
                f"{type(refinement).__name__} works at the size of the network's input, so it must stand in "
                'model.test_cfg.refine before those that work at the original size.'
            )
        if refinement.whole_image and settings.mode == 'slide':
            raise ConfigError(
                f'{type(refinement).__name__} looks at the patches of a whole image, but model.test_cfg.mode is '
                "'slide'. Set mode='whole', or take the entry out of model.test_cfg.refine."
            )
        if refinement.whole_image and model.stitch is not None and model.stitch.joins:
            raise ConfigError(
                f"{type(refinement).__name__} looks at the patches of CLIP's grid, but {type(model.stitch).__name__} "
                'makes a map on another one. Take one of the two out.'
            )
        refinement.check(model)
        refinement.bind(model.backbone.tower)
    check_companions(refinements, model.companions)
    return nn.ModuleList(refinements).to(next(model.backbone.parameters()).device)


def _check_slide(model: EncoderDecoder, settings: InferenceSettings) -> None:
    patch, crop = model.backbone.tower.patch_size, settings.crop_size
    if crop[0] < patch[0] or crop[1] < patch[1]:
        raise ConfigError(
            f'model.test_cfg.crop_size is {crop}, smaller than a patch of this CLIP, {patch}. Give a larger crop.'
        )
    if getattr(model.decode_head, 'needs_whole_image', False):
        raise ConfigError(
            f'{type(model.decode_head).__name__} compares the patches of a whole image, but model.test_cfg.mode is '
            "'slide', in which each window would be refined for itself. Set mode='whole', or switch off in the head "
            'what compares them.'
        )
