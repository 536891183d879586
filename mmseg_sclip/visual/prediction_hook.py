"""A hook that draws predictions, and what hooks that draw have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from mmseg.structures import SegDataSample
from torch import nn
from torch.utils.data import Dataset

from ..datasets.palette import classes_of
from ..datasets.pipelines import bands_of
from ..engine.label_size import labels_at
from ..images import read_evaluated
from ..outputs import OutputFolder, refuse_inputs
from .figure import save, to_pixels
from .pixels import evaluated_pixels
from .prediction import prediction_figure


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
        output_folder: Where pictures go during a test; None where they go to the visualizer.

    Raises:
        OutputError: Before the first image, where `out_dir` holds images or label maps of the dataset.
    """

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
        self.output_folder: OutputFolder | None = None

    def refuse_inputs(self, inputs: Iterable[Path | str]) -> None:
        """Refuse an `out_dir` where inputs of the run lie; the evaluation asks for it before it reads an image."""
        if self.draw and self.out_dir:
            refuse_inputs(self.out_dir, inputs, '--show-dir')

    def before_val(self, runner: Runner) -> None:
        """Settle names and colours."""
        self._start(runner, 'val')

    def before_test(self, runner: Runner) -> None:
        """Settle names and colours."""
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
        self.output_folder = open_folder(self.out_dir, '--show-dir', dataset, '.png') if self.out_dir else None

    def _draw(self, runner: Runner, batch_idx: int, data_batch: dict, outputs: Sequence[SegDataSample]) -> None:
        if not self.draw or not self.every_n_inner_iters(batch_idx, self.interval):
            return
        for number, sample in enumerate(outputs):
            image = read_evaluated(sample.img_path, self.backend_args, bands_of(runner.cfg))
            truth = sample.gt_sem_seg.data[0].cpu().numpy() if 'gt_sem_seg' in sample else None
            prediction = sample.pred_sem_seg.data[0]
            shape = sample.metainfo.get('ori_shape', prediction.shape) if truth is None else truth.shape
            prediction = labels_at(prediction, shape, sample.metainfo).cpu().numpy()
            if image.shape[:2] != prediction.shape:  # a part of the image is evaluated, which the model has got
                image = evaluated_pixels(image, data_batch['inputs'][number], prediction.shape)
            figure = prediction_figure(image, prediction, truth, self._classes, self._palette)
            name = Path(sample.img_path).stem
            if self.output_folder is not None:
                stem = self.output_folder.name(sample.img_path, '.png')
                save(figure, self.output_folder, f'{stem}.png', needed=False)
            elif self.show:
                runner.visualizer.show(to_pixels(figure), name, self.wait_time)
            else:
                runner.visualizer.add_image(name, to_pixels(figure), runner.iter)


def open_folder(folder: Path | str, what: str, dataset: Dataset, suffix: str) -> OutputFolder:
    """A folder for pictures of a dataset, all of whose names are settled, so that every process uses the same ones.

    Raises:
        OutputError: The folder holds images or label maps of the dataset.
    """
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    inputs = [info[key] for info in infos for key in ('img_path', 'seg_map_path') if info.get(key)]
    output = OutputFolder(folder, what, inputs)
    output.reserve([info['img_path'] for info in infos], suffix)
    return output


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside what MMEngine wraps around it to distribute it."""
    return model.module if is_model_wrapper(model) else model
