"""Pictures of predictions over the image, next to the ground truth if there is one, and the hook that draws them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from mmseg.structures import SegDataSample
from torch import nn

from ..datasets.palette import classes_of
from ..datasets.pipelines import bands_of
from ..engine.label_size import labels_at
from ..images import read_evaluated
from ..outputs import OutputFolder
from .figure import Panel, class_legend, draw, save, to_pixels
from .pixels import blend, evaluated_pixels, paint


@HOOKS.register_module()
class PredictionVisualizationHook(Hook):
    """A picture of each image: ground truth, prediction, and a legend of the classes that occur.

    Images are drawn in the orientation in which they are evaluated: they are not turned by EXIF, since ground truth
    is not turned either.

    Args:
        draw: Whether to draw at all; `--show` and `--show-dir` set it.
        interval: Draw every so many batches.
        show: Open a window instead of writing files.
        wait_time: Seconds that a window stays.
        backend_args: Of MMEngine's file client.
        out_dir: Write `STEM.png` to this folder; None for the backends of the run's visualizer.

    Attributes:
        output_folder: Where pictures go; None where they go to the visualizer. `SetupHook` looks at it before the test.
    """

    suffix = '.png'

    def __init__(
        self,
        draw: bool = False,
        interval: int = 1,
        show: bool = False,
        wait_time: float = 0.0,
        backend_args: dict | None = None,
        out_dir: str | None = None,
    ) -> None:
        self.draw = draw
        self.interval = interval
        self.show = show
        self.wait_time = wait_time
        self.backend_args = backend_args
        self.out_dir = out_dir
        self.output_folder = OutputFolder(out_dir, '--show-dir') if draw and out_dir else None

    def before_val(self, runner: Runner) -> None:
        """Settle the colours."""
        self._start(runner, 'val')

    def before_test(self, runner: Runner) -> None:
        """Settle the colours."""
        self._start(runner, 'test')

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: dict, outputs: Sequence) -> None:
        """Draw a batch."""
        self._draw(runner, batch_idx, data_batch, outputs)

    def after_test_iter(self, runner: Runner, batch_idx: int, data_batch: dict, outputs: Sequence) -> None:
        """Draw a batch."""
        self._draw(runner, batch_idx, data_batch, outputs)

    def _start(self, runner: Runner, stage: str) -> None:
        if not self.draw:
            return
        dataset = getattr(runner, f'{stage}_dataloader').dataset
        config = (runner.cfg.get(f'{stage}_dataloader') or {}).get('dataset')
        meta = getattr(unwrapped(runner.model), 'dataset_meta', None)
        # MMSegmentation's random colours are not those of the other commands.
        named = dict(classes=dataset.metainfo.get('classes'))
        meta = meta or (named if isinstance(config, Mapping) else dataset.metainfo)
        self._classes, self._palette = classes_of(config, meta)

    def _draw(self, runner: Runner, batch_idx: int, data_batch: dict, outputs: Sequence[SegDataSample]) -> None:
        if not self.draw or not self.every_n_inner_iters(batch_idx, self.interval):
            return
        for number, sample in enumerate(outputs):
            image = read_evaluated(sample.img_path, self.backend_args, bands_of(runner.cfg))
            truth = sample.gt_sem_seg.data[0].cpu().numpy() if 'gt_sem_seg' in sample else None
            prediction = sample.pred_sem_seg.data[0]
            shape = sample.metainfo.get('ori_shape', prediction.shape) if truth is None else truth.shape
            prediction = labels_at(prediction, shape, sample.metainfo).cpu().numpy()
            if image.shape[:2] != prediction.shape:  # only a part of the image is evaluated
                image = evaluated_pixels(image, data_batch['inputs'][number], prediction.shape)
            figure = prediction_figure(image, prediction, truth, self._classes, self._palette)
            name = Path(sample.img_path).stem
            if self.output_folder is not None:
                stem = self.output_folder.name(sample.img_path, self.suffix)
                save(figure, self.output_folder, f'{stem}{self.suffix}', needed=False)
            elif self.show:
                runner.visualizer.show(to_pixels(figure), name, self.wait_time)
            else:
                runner.visualizer.add_image(name, to_pixels(figure), runner.iter)


def prediction_figure(
    image: np.ndarray,
    prediction: np.ndarray,
    truth: np.ndarray | None,
    names: Sequence[str],
    palette: Sequence[Sequence[int]],
    opacity: float = 0.5,
) -> Figure:
    """The image with the ground truth, where there is one, and with the prediction over it.

    Args:
        image: (H, W, 3), uint8, RGB.
        prediction: (H, W), labels.
        truth: (H, W), labels; pixels without a class have 255 or another number that is not a class. Or None.
        names: Of the classes.
        palette: RGB of the classes.
        opacity: Share of the classes' colours, 0..1.

    Returns:
        The figure; its legend has the classes that occur.
    """
    maps = [prediction] if truth is None else [truth, prediction]
    titles = [''] if truth is None else ['ground truth', 'prediction']
    panels = [
        Panel(blend(image, paint(labels, palette), opacity), title) for labels, title in zip(maps, titles, strict=True)
    ]
    present = {int(label) for labels in maps for label in np.unique(labels)}
    return draw([panels], legend=class_legend(names, palette, present))


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside what MMEngine wraps around it to distribute it."""
    return model.module if is_model_wrapper(model) else model
