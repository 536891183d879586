"""What a test does before its first image, in this package's evaluation as with MMEngine's plain runner."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS

from ..checks import is_a
from ..config import input_files
from ..datasets.check_files import inputs_of
from ..datasets.views import fill_in
from ..outputs import check_outputs


@HOOKS.register_module()
class SetupHook(Hook):
    """Check the folders that metrics and hooks write to, settle the names of their files, and derive views.

    What writes one file per image has an `output_folder`, an `OutputFolder` or None, and the `suffix` of its
    files. The evaluation adds this hook where a config lacks it.

    Raises:
        OutputError: A folder holds inputs of the run, two are the same, or one cannot be written to.
        ConfigError: No views can be derived, see `views_of`.
    """

    priority = 'HIGHEST'  # before the hooks that write

    def before_test(self, runner: Runner) -> None:
        """Check the folders, settle the names, and derive the views."""
        _prepare_outputs(runner, runner.test_dataloader.dataset, runner.test_evaluator)
        fill_in(runner.test_dataloader.dataset, runner.cfg.get('test_pipeline'))

    def before_val(self, runner: Runner) -> None:
        """Prepare the folders."""
        _prepare_outputs(runner, runner.val_dataloader.dataset, runner.val_evaluator)


def add_hook(config: Config, kind: type[Hook]) -> None:
    """Add a hook to a config that lacks it; a config's own `custom_hooks` replace those of its base."""
    hooks = config.get('custom_hooks') or []
    if not any(isinstance(hook, Mapping) and is_a(HOOKS, hook, kind) for hook in hooks):
        config.custom_hooks = [*hooks, dict(type=kind.__name__)]


def writers_of(runner: Runner, evaluator: Evaluator) -> list[Any]:
    """The metrics and hooks that write files."""
    return [part for part in (*evaluator.metrics, *runner.hooks) if getattr(part, 'output_folder', None) is not None]


def _prepare_outputs(runner: Runner, dataset: Any, evaluator: Evaluator) -> None:
    config, writers = copy.deepcopy(runner.cfg), writers_of(runner, evaluator)
    if isinstance(config.model.get('module'), Mapping):  # test-time augmentation stands around the model
        config.model = config.model.module
    if writers:
        check_outputs([part.output_folder for part in writers], [*input_files(config), *inputs_of(dataset)])
    for part in writers:
        images = (dataset.get_data_info(index)['img_path'] for index in range(len(dataset)))
        part.output_folder.reserve(images, part.suffix)
