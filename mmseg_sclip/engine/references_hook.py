"""What the number of the demo is compared with, said at the end of its test."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS

from ..datasets.painted_scenes import PaintedScenesDataset
from ..models.segmentors import MethodBundle


@HOOKS.register_module()
class ReferencesHook(Hook):
    """Print one line at the end of a test: what other configs reach on the same scenes, and how to see them together.

    Nothing is printed where several methods are tested in one pass, since they have a table.

    Args:
        scenes: The values of the `SceneSet` for which `miou` holds. On other scenes the line has no numbers.
        miou: Percent, by the name of a shipped config.
        images: The stems of the images that the command of the line draws.
    """

    priority = 'LOWEST'

    def __init__(self, scenes: Mapping[str, str | int], miou: Mapping[str, float], images: Sequence[str]) -> None:
        self._scenes, self._miou, self._images = dict(scenes), dict(miou), list(images)

    def after_test(self, runner: Runner) -> None:
        """Print the line."""
        dataset = runner.test_dataloader.dataset
        if isinstance(runner.model, MethodBundle) or not is_main_process():
            return
        same = isinstance(dataset, PaintedScenesDataset) and dataset.scenes is not None
        same = same and asdict(dataset.scenes) == self._scenes and len(dataset) == dataset.scenes.count
        numbers = ', '.join(f'{name} {value:.2f}' for name, value in self._miou.items())
        what = f'For comparison, mIoU on the same scenes: {numbers}.' if same else 'For comparison, other attentions.'
        command = f'mmseg-sclip compare {" ".join(self._miou)} sclip_demo --images {" ".join(self._images)}'
        print(f'{what} In one picture: {command}')
