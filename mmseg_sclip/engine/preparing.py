"""What is done to a config before it is tested: exact counts, views, a loop of ours."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

from mmengine.config import Config
from mmengine.dataset import DefaultSampler
from mmengine.logging import print_log
from mmengine.runner import TestLoop
from mmseg.evaluation import IoUMetric
from mmseg.registry import DATA_SAMPLERS, LOOPS, METRICS, TRANSFORMS

from ..checks import class_of, is_a
from ..config import input_files
from ..datasets.check_files import check_files
from ..datasets.pipelines import parts_of, use_own_readers
from ..datasets.views import DerivedViews, views_of
from ..errors import ConfigError, MissingFileError, OutputError
from ..files import is_ours, refuse_taken
from ..models.needed import check_weights
from ..outputs import OutputFolder, check_outputs, refuse_inputs
from ..paths import config_name, configs_root
from .ignored import is_iou, is_plain_evaluator, metrics_in, settle_ignored
from .loop import EvaluationLoop
from .metric import check_metric_keys
from .result import FILE
from .setup_hook import SetupHook, add_hook
from .vocabulary_check import VocabularyCheckHook


def prepare(config: Config, on_error: str) -> list[str]:
    """Check a config's weights, files and folders, and let it count exactly, every image once.

    Args:
        config: It is changed.
        on_error: 'stop' or 'skip', see `evaluate`.

    Returns:
        What could not be written.
    """
    check_data_and_weights(config)
    use_own_readers(config)
    # A checkpoint or a config that an earlier run wrote may lie in the work folder.
    refuse_inputs(config.work_dir, [path for path in input_files(config) if not is_ours(path)], '--work-dir')
    for name in (FILE, Path(config.filename or FILE).name):  # the result, and a copy of the config
        refuse_taken(Path(config.work_dir) / name, '--work-dir')
    unwritten = _find_work_folder(config)
    _count_exactly(config)
    _use_loop(config, on_error)
    add_hook(config, VocabularyCheckHook)
    add_hook(config, SetupHook)
    return unwritten


def check_data_and_weights(config: Config, fetch: bool = True) -> None:
    """Look for the folders of the test dataset and for all weights, before anything is read.

    Args:
        config: The whole one.
        fetch: Download weights that are missing.

    Raises:
        MissingFileError: With all that is missing.
    """
    try:
        check_files(config.test_dataloader.dataset)
    except MissingFileError as error:
        try:
            check_weights(config.model, fetch=False)
        except MissingFileError as other:
            raise MissingFileError(f'{error} {other}') from error
        raise
    check_weights(config.model, fetch)


def use_views(config: Config) -> None:
    """Let the test run on the views of test-time augmentation.

    They are those of the config's `tta_pipeline`, or derived from the pipeline of each part of the dataset.

    Raises:
        ConfigError: There is no `tta_model`, or no views can be derived.
    """
    if config.get('tta_model') is None:
        raise ConfigError(
            "--tta needs tta_model, which the config does not have. Add tta_model=dict(type='SCLIPTTAModel')."
        )
    own = config.get('tta_pipeline') or []
    derived = not own or any(is_a(TRANSFORMS, step, DerivedViews) for step in own)
    for part in parts_of(config.test_dataloader.dataset):
        part['pipeline'] = views_of(part['pipeline']) if derived else own


def _use_loop(config: Config, on_error: str) -> None:
    """Let MMEngine's plain loop and sampler be those that count every image once, where the config has them."""
    if class_of(LOOPS, config.test_cfg.get('type', TestLoop)) is TestLoop:
        config.test_cfg.type = 'EvaluationLoop'
    sampler = config.test_dataloader.get('sampler') or {}
    if class_of(DATA_SAMPLERS, sampler.get('type', DefaultSampler)) is DefaultSampler and not sampler.get('shuffle'):
        config.test_dataloader.sampler = dict(type='EvaluationSampler')
    if not config.test_dataloader.get('num_workers'):
        config.test_dataloader.persistent_workers = False  # torch refuses True, which MMSegmentation's configs have
    if on_error == 'skip':
        if not is_a(LOOPS, config.test_cfg, EvaluationLoop):
            raise ConfigError(
                f'--on-error skip is the work of EvaluationLoop, but test_cfg has the loop {config.test_cfg.type}. '
                'Derive that one from mmseg_sclip.engine.loop.EvaluationLoop, or leave the flag out.'
            )
        config.test_dataloader.collate_fn = dict(type='collate_readable')


def _count_exactly(config: Config) -> None:
    """Let `ExactIoUMetric` stand in for MMSeg's `IoUMetric` in the test evaluators of a config.

    They ignore what the dataset names.
    """
    if is_plain_evaluator(config.test_evaluator):
        config.test_evaluator = config.test_evaluator['metrics']
    for metric in filter(is_iou, metrics_in(config)):
        if class_of(METRICS, metric['type']) is IoUMetric:
            metric['type'] = 'ExactIoUMetric'
        if 'metrics' in metric:  # MMEngine would take it for an Evaluator
            check_metric_keys(metric)
        settle_ignored(metric, config.test_dataloader.dataset)


def _find_work_folder(config: Config) -> list[str]:
    """Try to write into the work folder; where that fails, say so and take a temporary one, so that the test goes on.

    Returns:
        What could not be written.
    """
    try:
        check_outputs([OutputFolder(config.work_dir, '--work-dir')], [])
    except OutputError as error:
        config.work_dir = tempfile.mkdtemp(prefix='mmseg_sclip-')
        print_log(f'{error} The evaluation goes on; its files are in {config.work_dir}.', level=logging.ERROR)
        return [f'{error} The files of this run are in {config.work_dir}.']
    return []


def name_of(config: Config) -> str | None:
    """A config's `label`, if it was put together; else the name of a shipped config, or its file."""
    if config.get('label'):
        return config.label
    path = Path(config.filename).resolve() if config.filename else None
    shipped = path is not None and path.is_relative_to(configs_root())
    return config_name(path) if shipped else config.filename
