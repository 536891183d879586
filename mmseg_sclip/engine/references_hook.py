"""What the number of the demo is compared with, said at the end of its test."""

from collections.abc import Mapping

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS

from ..datasets.painting import SceneSet
from ..models.segmentors import MethodBundle


@HOOKS.register_module()
class ReferencesHook(Hook):
    """Print one line at the end of a test: what other configs reach on the same scenes, and how to see them together.

    Nothing is printed where several methods are tested in one pass, since they have a table.

    Args:
        scenes: The values of the `SceneSet` for which `miou` holds. On other scenes the line has no numbers.
        miou: Percent, by the name of a shipped config.
        command: It shows them together.
    """

    priority = 'LOWEST'

    def __init__(self, scenes: Mapping[str, str | int], miou: Mapping[str, float], command: str) -> None:
        self._scenes, self._miou, self._command = SceneSet(**scenes), miou, command

    def after_test(self, runner: Runner) -> None:
        """Print the line."""
        if isinstance(runner.model, MethodBundle) or not is_main_process():
            return
        dataset = runner.test_dataloader.dataset
        same = getattr(dataset, 'scenes', None) == self._scenes and len(dataset) == self._scenes.count
        numbers = ', '.join(f'{name} {value:.2f}' for name, value in self._miou.items())
        what = f'For comparison, mIoU on the same scenes: {numbers}.' if same else 'For comparison, other attentions.'
        print(f'{what} In one picture: {self._command}')
