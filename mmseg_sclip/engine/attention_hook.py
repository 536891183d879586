"""Pictures of attention for a whole dataset, during a test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from ..utils.checks import check_choice


@HOOKS.register_module()
class AttentionVisualizationHook(Hook):
    """Write a picture `STEM_attention.png` for each test image: what some points of it attend to.

    The same as `tools/attention.py`, in the orientation in which images are evaluated: they are not turned by EXIF.
    A config names it in `custom_hooks`, which replace those of its base:

        custom_hooks = [
            dict(type='VocabularyCheckHook'),
            dict(type='AttentionVisualizationHook', points=[(0.5, 0.5), (120, 80)], layers=[-1, 6]),
        ]

    Args:
        points: (x, y) each: whole numbers are pixels of the image, decimals from 0 to 1 shares of its width and
            height. A pixel outside of an image is left out for that image.
        attention: Strategies, see `bind_strategy`: names, configs, or 'config' for the config's own.
        layers: Blocks, from 1, or negative from the end.
        heads: 'mean', 'all' or a number from 1.
        mode: 'whole', 'slide' for the window nearest to each point, or None as the config evaluates.
        interval: Draw every so many images.
        out_dir: None for the folder `attention` beside the log of the run.
        max_side: Larger pictures are made smaller until their longer side has this many pixels.
        backend_args: Of MMEngine's file client.

    Attributes:
        written: Number of pictures.

    Raises:
        ValueError: A point is none, or the model has no such strategy, layer or head; before the first image.
    """

    def __init__(
        self,
        points: Sequence[Sequence[float]],
        attention: Sequence[str | Mapping] = ('VanillaSelfAttention', 'config'),
        layers: Sequence[int] = (-1,),
        heads: str | int = 'mean',
        mode: str | None = None,
        interval: int = 1,
        out_dir: str | None = None,
        max_side: int | None = None,
        backend_args: dict | None = None,
    ) -> None:
        self.points = [_check_point(point) for point in points]
        if not self.points:
            raise ValueError('AttentionVisualizationHook.points is empty. Give points such as (0.5, 0.5) or (120, 80).')
        if not isinstance(interval, int) or interval < 1:
            raise ValueError(f'AttentionVisualizationHook.interval is {interval!r}; it must be a whole number from 1.')
        check_choice('AttentionVisualizationHook.mode', mode, (None, 'whole', 'slide'))
        self.attention = [attention] if isinstance(attention, (str, Mapping)) else list(attention)
        self.layers = layers
        self.heads = heads
        self.mode = mode
        self.interval = interval
        self.out_dir = out_dir
        self.max_side = max_side
        self.backend_args = backend_args
        self.written = 0
        self._seen = 0

    def before_test(self, runner: Runner) -> None:
        """Build the strategies, and find a name for each picture."""
        # Not at the top: that package reads images with parts of this one.
        from ..attention_maps import bind_strategy, check_heads, check_layers

        model = _model(runner)
        self._strategies = [bind_strategy(model, entry, runner.cfg.model) for entry in self.attention]
        check_layers(model.backbone.tower, self.layers)
        check_heads(self.heads, model.backbone.tower.heads)
        dataset = runner.test_dataloader.dataset
        paths = [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]
        self._names = _names(paths)
        self._folder = Path(self.out_dir or Path(runner.log_dir) / 'attention')
        self.written = self._seen = 0

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict, outputs: Sequence[SegDataSample]
    ) -> None:
        """Draw the images of a batch."""
        images = None
        for index, sample in enumerate(outputs):
            self._seen += 1
            if (self._seen - 1) % self.interval:
                continue
            if images is None:
                images = _model(runner).data_preprocessor(data_batch, False)['inputs']
            self._draw(runner, images[index], sample)

    def after_test(self, runner: Runner) -> None:
        """Say where the pictures are."""
        left_out = -(-self._seen // self.interval) - self.written
        reason = f'; {left_out} images are smaller than every point' if left_out else ''
        runner.logger.info(f'{self.written} attention pictures are in {self._folder.resolve()}{reason}')

    def _draw(self, runner: Runner, image: Tensor, sample: SegDataSample) -> None:
        from ..attention_maps import attention_figure, attention_maps
        from ..utils.reading import read_evaluated

        if tuple(image.shape[-2:]) != tuple(sample.img_shape[:2]) or sample.get('flip'):
            raise ValueError(
                f'{sample.img_path} reaches the network padded or flipped, and attention pictures do not undo that. '
                'Take the step out of the test pipeline or of the data_preprocessor.'
            )
        size = tuple(sample.ori_shape[:2])
        points = [point for point in (_to_pixel(point, size) for point in self.points) if _is_inside(point, size)]
        if not points:
            return
        pixels = read_evaluated(sample.img_path, self.backend_args)
        maps = attention_maps(_model(runner), image, points, self._strategies, self.layers, self.heads, self.mode, size)
        name = self._names[sample.img_path]
        title = f'{Path(sample.img_path).name}, {runner.cfg.model.clip.model_name}.'
        attention_figure(pixels, maps, title, self.max_side).save(self._folder / f'{name}_attention.png')
        self.written += 1


def _names(paths: Sequence[str]) -> dict[str, str]:
    """The stem of each file, with a number where another folder had it before."""
    names: dict[str, str] = {}
    used = set()
    for path in paths:
        stem = name = Path(path).stem
        number = 1
        while name in used:
            number += 1
            name = f'{stem}-{number}'
        used.add(name)
        names[path] = name
    return names


def _check_point(point: Sequence[float]) -> tuple[float, float]:
    numbers = tuple(point) if isinstance(point, (list, tuple)) else ()
    if len(numbers) == 2:
        if all(type(number) is int and number >= 0 for number in numbers):
            return numbers
        if all(type(number) is float and 0 <= number <= 1 for number in numbers):
            return numbers
    raise ValueError(
        f'AttentionVisualizationHook.points has {point!r}; a point is (x, y), two whole numbers of pixels such as '
        '(120, 80), or two shares of the width and height such as (0.5, 0.5).'
    )


def _to_pixel(point: tuple[float, float], size: tuple[int, int]) -> tuple[int, int]:
    """(x, y) in pixels of an image of `size` (height, width)."""
    if type(point[0]) is int:
        return point
    return tuple(min(int(share * side), side - 1) for share, side in zip(point, size[::-1], strict=True))


def _is_inside(point: tuple[int, int], size: tuple[int, int]) -> bool:
    return point[0] < size[1] and point[1] < size[0]


def _model(runner: Runner) -> nn.Module:
    return runner.model.module if is_model_wrapper(runner.model) else runner.model
