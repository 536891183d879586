"""A hook that draws what points of each image attend to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from mmseg.structures import SegDataSample
from torch import Tensor

from ..checks import check_choice, check_whole
from ..datasets.pipelines import bands_of
from ..errors import ConfigError
from ..images import read_evaluated
from ..models.segmentors import SCLIPSegmentor
from ..outputs import OutputFolder
from .attention import attention_maps, check_heads, check_layers
from .attention_figure import attention_figure
from .bound_attention import bind_attention
from .figure import save
from .pixels import packed_pixels
from .prediction_hook import unwrapped


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
        attention: What `bind_attention` reads: names, configs, or 'config' for the config's own.
        layers: Blocks, from 1, or negative from the end.
        heads: 'mean', 'all' or a number from 1.
        mode: 'whole', 'slide' for the window nearest to each point, or None as the config evaluates.
        interval: Draw every so many images.
        out_dir: None for the folder `attention` beside the log of the run.
        max_side: Larger pictures are made smaller until their longer side has this many pixels.
        backend_args: Of MMEngine's file client.

    Attributes:
        written: Number of pictures.
        output_folder: Where they go. `SetupHook` looks at it before the test.

    Raises:
        ConfigError: A point cannot be read, or the model has no such attention, layer or head; before the first image.
    """

    suffix = '_attention.png'

    def __init__(
        self,
        points: Sequence[Sequence[float]],
        attention: str | Mapping | Sequence[str | Mapping] = ('CLIP', 'config'),
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
            raise ConfigError('AttentionVisualizationHook.points is empty. Give points such as (0.5, 0.5), (120, 80).')
        check_whole('AttentionVisualizationHook.interval', interval, least=1)
        check_choice('AttentionVisualizationHook.mode', mode, (None, 'whole', 'slide'))
        self.attention = [attention] if isinstance(attention, (str, Mapping)) else list(attention)
        self.layers = layers
        self.heads = heads
        self.mode = mode
        self.interval = interval
        self.out_dir = out_dir
        self.max_side = max_side
        self.backend_args = backend_args
        self.output_folder = OutputFolder(out_dir, type(self).__name__) if out_dir else None
        self.written = 0

    def before_run(self, runner: Runner) -> None:
        """Find the folder where none is named, before `SetupHook` looks at it."""
        if self.out_dir is None:
            self.output_folder = OutputFolder(Path(runner.log_dir) / 'attention', type(self).__name__)

    def before_test(self, runner: Runner) -> None:
        """Build the attentions."""
        model = unwrapped(runner.model)
        if not isinstance(model, SCLIPSegmentor):
            raise ConfigError(
                f'AttentionVisualizationHook draws the attention of an SCLIPSegmentor, and the model is a '
                f'{type(model).__name__}. Take the hook out; with test-time augmentation there are several views.'
            )
        self._attentions = [bind_attention(model, entry, runner.cfg.model) for entry in self.attention]
        check_layers(model.backbone.tower, self.layers)
        check_heads(self.heads, model.backbone.tower.heads)
        self.written = self._seen = 0

    def after_test_iter(self, runner: Runner, batch_idx: int, data_batch: dict, outputs: Sequence) -> None:
        """Draw the images of a batch."""
        images = None
        for index, sample in enumerate(outputs):
            if self._seen % self.interval == 0:
                if images is None:
                    images = unwrapped(runner.model).data_preprocessor(data_batch, False)['inputs']
                self._draw(runner, images[index], sample, data_batch['inputs'][index])
            self._seen += 1

    def after_test(self, runner: Runner) -> None:
        """Say where the pictures are."""
        left_out = -(-self._seen // self.interval) - self.written
        reason = f'; {left_out} images are smaller than every point' if left_out else ''
        written = self.written - self.output_folder.unwritten
        runner.logger.info(f'{written} attention pictures are in {self.output_folder.folder.resolve()}{reason}')

    def _draw(self, runner: Runner, image: Tensor, sample: SegDataSample, packed: Tensor) -> None:
        if tuple(image.shape[-2:]) != tuple(sample.img_shape[:2]) or sample.get('flip'):
            raise ConfigError(
                f'{sample.img_path} reaches the network padded or flipped, and attention pictures do not undo that. '
                'Take the step out of the test pipeline or of the data_preprocessor.'
            )
        height, width = sample.ori_shape[:2]
        points = [_to_pixel(point, height, width) for point in self.points]
        points = [(x, y) for x, y in points if x < width and y < height]
        if not points:
            return
        pixels = read_evaluated(sample.img_path, self.backend_args, bands_of(runner.cfg))
        if pixels.shape[:2] != (height, width):  # only a part of the image is evaluated
            pixels = packed_pixels(packed)
        maps = attention_maps(
            unwrapped(runner.model),
            image,
            points,
            self._attentions,
            self.layers,
            self.heads,
            self.mode,
            (height, width),
            sample.metainfo,
        )
        title = f'{Path(sample.img_path).name}, {unwrapped(runner.model).source.name}.'
        figure = attention_figure(pixels, maps, title, self.max_side)
        save(
            figure,
            self.output_folder,
            self.output_folder.name(sample.img_path, self.suffix) + self.suffix,
            needed=False,
        )
        self.written += 1


def _check_point(point: Sequence[float]) -> tuple[float, float]:
    numbers = tuple(point) if isinstance(point, (list, tuple)) else ()
    if len(numbers) == 2:
        if all(type(number) is int and number >= 0 for number in numbers):
            return numbers
        if all(type(number) is float and 0 <= number <= 1 for number in numbers):
            return numbers
    raise ConfigError(
        f'AttentionVisualizationHook.points has {point!r}; a point is (x, y), two whole numbers of pixels such as '
        '(120, 80), or two shares of the width and height such as (0.5, 0.5).'
    )


def _to_pixel(point: tuple[float, float], height: int, width: int) -> tuple[int, int]:
    """(x, y) in pixels."""
    if type(point[0]) is int:
        return point
    return min(int(point[0] * width), width - 1), min(int(point[1] * height), height - 1)
