"""A sign of life during a test."""

import sys
from collections.abc import Sequence

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.utils import ProgressBar
from mmseg.registry import HOOKS


@HOOKS.register_module()
class ProgressHook(Hook):
    """A progress bar on stderr while a dataset is tested, where that is a terminal; the log has a line now and then."""

    priority = 'LOW'

    def before_test_epoch(self, runner: Runner) -> None:
        """Start the bar."""
        images = len(runner.test_dataloader.sampler)  # of this process, without those that were finished before
        shown = is_main_process() and sys.stderr.isatty()
        self._bar = ProgressBar(images, file=sys.stderr) if shown else None

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: Sequence | None = None
    ) -> None:
        """Count the images of a batch."""
        if self._bar is not None:
            self._bar.update(len(outputs))

    def after_test_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """End the bar's line."""
        if self._bar is not None:
            print(file=sys.stderr)
