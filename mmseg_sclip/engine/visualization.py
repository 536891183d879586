"""Pictures of predictions during a test."""

from collections.abc import Sequence
from pathlib import Path

from mmengine.runner import Runner
from mmseg.engine import SegVisualizationHook
from mmseg.registry import HOOKS
from mmseg.structures import SegDataSample

from ..utils.reading import read_evaluated


@HOOKS.register_module()
class PredictionVisualizationHook(SegVisualizationHook):
    """MMSeg's hook with a picture for every image, in the orientation in which it was evaluated.

    MMSeg's own draws every fiftieth, turns photographs by their EXIF tag though the labels are not
    turned, and lets pictures of one name in different folders overwrite each other.

    Args:
        draw: Whether to draw at all; `--show` and `--show-dir` set it.
        interval: Draw every so many batches.
        show: Open a window instead of writing files.
        wait_time: Seconds that a window stays.
        backend_args: Of the file client.
        out_dir: Write `STEM.png` to this folder; None for the visualizer's own backends.

    Attributes:
        written: Number of pictures that were written to `out_dir`.
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
        if draw:
            super().__init__(draw, interval, show, wait_time, backend_args)
        else:  # without the warning that nothing will be drawn
            self.draw = False
        self.out_dir = out_dir
        self.written = 0
        self._used: set[str] = set()

    def _after_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict, outputs: Sequence[SegDataSample], mode: str = 'val'
    ) -> None:
        if not self.draw or mode == 'train' or not self.every_n_inner_iters(batch_idx, self.interval):
            return
        for output in outputs:
            image = read_evaluated(output.img_path, self.backend_args)
            name = self._name(output.img_path)
            file = None if self.out_dir is None else Path(self.out_dir) / f'{name}.png'
            if file is not None:
                file.unlink(missing_ok=True)  # one of an earlier run would be counted
            self._visualizer.add_datasample(
                name,
                image,
                data_sample=output,
                show=self.show,
                wait_time=self.wait_time,
                step=runner.iter,
                out_file=None if file is None else str(file),
            )
            self.written += file is not None and file.is_file()

    def _name(self, path: str) -> str:
        """The file's stem, with a number where another folder had it before."""
        stem = name = Path(path).stem
        number = 1
        while name in self._used:
            number += 1
            name = f'{stem}-{number}'
        self._used.add(name)
        return name
