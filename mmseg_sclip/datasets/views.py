"""The views of test-time augmentation, derived from the pipeline of the plain test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmcv.transforms import BaseTransform, Resize
from mmcv.transforms import LoadAnnotations as AnyAnnotations
from mmcv.transforms import LoadImageFromFile as AnyImage
from mmengine.dataset import Compose
from mmseg.datasets.transforms import ResizeShortestEdge
from mmseg.registry import TRANSFORMS

from ..checks import is_a
from ..errors import ConfigError
from ..images import CheckImageFile
from .building import built_parts
from .transforms import ResizeToPatches

SCALES = (0.75, 1.0, 1.25, 1.5)  # with a flip of each, the views of MMSegmentation
_SIZES = ('scale', 'scale_factor', 'short_side', 'max_size')  # in pixels, or in shares of the image


@TRANSFORMS.register_module()
class DerivedViews(BaseTransform):
    """A placeholder for `views_of(test_pipeline)`, which `SetupHook` puts in its place.

    The shipped configs have it as their `tta_pipeline`, so that `tools/test.py --tta` of MMSegmentation runs on them.
    """

    def transform(self, results: dict) -> dict:
        """Say what is missing.

        Raises:
            ConfigError: Always.
        """
        raise ConfigError(
            "tta_pipeline=[dict(type='DerivedViews')] is filled in before the test by SetupHook, which the "
            "custom_hooks of this config do not have. Add dict(type='SetupHook'), or run `mmseg-sclip test --tta`."
        )


def views_of(steps: Sequence[Mapping]) -> list[Mapping]:
    """A test pipeline that gives eight views of each image, at four scales, each also flipped.

    The `Resize` of the pipeline is taken at each scale; images that are not resized are resized by the scale itself.

    Args:
        steps: Those of the plain test.

    Raises:
        ConfigError: Its label maps are resized with the images, so that views would have different ones.
    """
    steps = [dict(step) for step in steps]
    loading = [step for step in steps if is_a(TRANSFORMS, step, AnyImage, CheckImageFile)]
    others = [step for step in steps if step not in loading]
    resizing = next(
        (step for step in others if is_a(TRANSFORMS, step, Resize, ResizeShortestEdge, ResizeToPatches)), None
    )
    before = others[: others.index(resizing)] if resizing else []
    if any(is_a(TRANSFORMS, step, AnyAnnotations) for step in before):
        raise ConfigError(
            '--tta: the test pipeline loads label maps before it resizes the images, so the views of an image would '
            'have different label maps. Put LoadAnnotations after Resize, or write a tta_pipeline of your own.'
        )
    sizes = [_at_scale(resizing or dict(type='Resize', scale_factor=1.0, keep_ratio=True), r) for r in SCALES]
    flips = [dict(type='RandomFlip', prob=prob, direction='horizontal') for prob in (0.0, 1.0)]
    after = [[step] for step in others if step is not resizing and step not in before]
    return [*loading, *before, dict(type='TestTimeAug', transforms=[sizes, flips, *after])]


def fill_in(dataset: Any, test_pipeline: Sequence[Mapping] | None) -> None:
    """Put the views of a test pipeline where a built dataset has `DerivedViews`.

    Args:
        dataset: It is changed.
        test_pipeline: That of the config.

    Raises:
        ConfigError: The config has no `test_pipeline`, or see `views_of`.
    """
    for part in built_parts(dataset):
        if any(isinstance(step, DerivedViews) for step in getattr(part.pipeline, 'transforms', ())):
            if not test_pipeline:
                raise ConfigError('tta_pipeline is derived from test_pipeline, which this config does not have.')
            part.pipeline = Compose(views_of(test_pipeline))


def _at_scale(step: Mapping, factor: float) -> dict:
    """A step that resizes, at another scale; numbers of pixels stay whole."""
    found = dict(step)
    for key in _SIZES:
        if found.get(key) is not None:
            value = found[key]
            whole = key != 'scale_factor'
            scaled = [int(each * factor) if whole else each * factor for each in _as_list(value)]
            found[key] = tuple(scaled) if isinstance(value, (list, tuple)) else scaled[0]
    return found


def _as_list(value: Any) -> list:
    return list(value) if isinstance(value, (list, tuple)) else [value]
