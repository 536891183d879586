"""One evaluation: from a config to `result.json`. `tools/test.py` and every row of the table tool go through it."""

from __future__ import annotations

import copy
import logging
import signal
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import all_gather_object, broadcast_object_list, get_world_size, is_main_process
from mmengine.logging import print_log

from ..checks import check_choice
from ..datasets.building import built_parts
from ..datasets.inspection import only_one_class
from ..errors import ConfigError, Interrupted, OutputError, UserError, output_error
from .fingerprint import fingerprint, of_counts
from .ignored import ignored_labels
from .interrupts import quiet_logs, terminated_as_interrupted
from .journal import Finished, Journal
from .loop import EvaluationSampler, RecordHook, SkippingPipeline
from .measured import Measured, partial_result, resume_from
from .metric import ExactIoUMetric
from .notes_hook import NotesHook
from .preparing import prepare, use_views
from .result import write_result
from .runner import build_runner, device_of
from .setup_hook import writers_of
from .sharing import bundle

ON_ERROR = ('stop', 'skip')
JOURNAL = 'journal'  # the folder of the journals in a work folder


def evaluate(
    config: Config,
    device: torch.device | str | None = None,
    tta: bool = False,
    resume: bool = False,
    on_error: str = 'stop',
) -> dict[str, Any]:
    """Test a config on its dataset, and write `result.json` into its `work_dir`.

    The counts of each finished image go to a journal in the work folder, which a written result makes superfluous.
    Every process of a distributed test calls this function and gets the same result; the first one writes it.

    Args:
        config: With a `work_dir`; it is not changed. MMSeg's `IoUMetric` is replaced by `ExactIoUMetric`, whose
            numbers are the same.
        device: Where the model runs; None for a GPU where there is one.
        tta: Average several views of each image, see `use_views`.
        resume: Go on after the images in the journal.
        on_error: 'stop' at a sample that cannot be read, or 'skip' it.

    Returns:
        The content of `result.json`: `config` (the name of a shipped one, else its file), `images` (number), `skipped`
        (list of {image, reason}), `metrics` (`aAcc`, `mIoU`, `mAcc` and what else the metric was asked for, in
        percent, not rounded), `classes` (see `class_results`), `versions`, `device`, `processes`, `seconds` (of the
        test itself), `precision`, `weights` (see `weights_identity`), `settings` (those that matter, resolved) and
        `fingerprint` (see `digest`). `metrics` and `classes` are empty where nothing was counted. And one more that is
        not in the file: `unwritten`, a list of sentences that say what could not be written.

    Raises:
        ConfigError: A setting is wrong, or there is a journal of other settings to resume from only.
        MissingFileError: Data or weights are missing.
        BadFileError: A sample cannot be read.
        OutputError: A folder of the outputs holds inputs.
        Interrupted: By SIGINT or SIGTERM; it has the partial result.
    """
    config = copy.deepcopy(config)
    if tta:
        use_views(config)
    return evaluate_methods([config], device, resume, on_error, tta)[0]


def evaluate_methods(
    configs: Sequence[Config],
    device: torch.device | str | None = None,
    resume: bool = False,
    on_error: str = 'stop',
    tta: bool = False,
) -> list[dict[str, Any]]:
    """Test several configs in one pass over the images that they share.

    Each image is decoded once, the towers run once where configs share them (see `score_together`), and each config has
    a metric, a journal and a `result.json` of its own, with the counts that it has when it is tested alone.

    Args:
        configs: One or more with equal datasets, pipelines and preprocessors; the first one's hooks and loader are
            used. Each has a `work_dir`.
        device: As in `evaluate`, like all that follows.
        resume: Images count as finished that are in the journals of all configs.
        on_error: As in `evaluate`.
        tta: Put the model into `tta_model`; for one config only.

    Returns:
        The result of each config.

    Raises:
        ConfigError: Configs do not share what they must share, or as in `evaluate`.
        MissingFileError: As in `evaluate`, like all others.
    """
    check_choice('on_error', on_error, ON_ERROR)
    configs = [copy.deepcopy(config) for config in configs]
    unwritten = [sentence for config in configs for sentence in prepare(config, on_error)]
    with quiet_logs(), terminated_as_interrupted():
        return _Evaluation(configs, device, tta, on_error).run(resume, unwritten)


class _Evaluation:
    """A runner with all that a test needs, its files listed and its outputs checked."""

    def __init__(self, configs: Sequence[Config], device: torch.device | str | None, tta: bool, on_error: str) -> None:
        config = configs[0] if len(configs) == 1 else bundle(configs)
        self.config = config
        self.runner = runner = build_runner(config, device, tta)
        self.dataset, self.loop = runner.test_dataloader.dataset, runner.test_loop
        if on_error == 'skip':
            for part in built_parts(self.dataset):
                part.pipeline = SkippingPipeline(part.pipeline, UserError)
        metrics = runner.test_evaluator.metrics
        self.samples = [self.dataset.get_data_info(index) for index in range(len(self.dataset))]
        if get_world_size() > 1 and not isinstance(runner.test_dataloader.sampler, EvaluationSampler):
            raise ConfigError(
                f'The sampler of test_dataloader is a {type(runner.test_dataloader.sampler).__name__}, which does not '
                "give every image to one process only. Set sampler=dict(type='EvaluationSampler')."
            )
        exact = [metric for metric in metrics if isinstance(metric, ExactIoUMetric)]
        counting = exact[: len(configs)] or [None]
        self.methods = []
        for own, metric in zip(configs, counting, strict=True):
            parts = fingerprint(own, device_of(runner.model), self.dataset)
            journal = None
            if metric is not None and not metric.format_only:
                journal = metric.journal = Journal(Path(own.work_dir) / JOURNAL, of_counts(parts))
            self.methods.append(Measured(own, metric, parts, journal))
        if exact and not exact[0].format_only and is_main_process():
            with_truth = [sample for sample in self.samples if sample.get('seg_map_path')]
            ignored, classes = ignored_labels(exact[0].ignore_index), self.dataset.metainfo.get('classes') or ()
            if sentence := only_one_class(with_truth, ignored, classes):
                print_log(sentence, logger='current', level=logging.WARNING)
        self.loop.journals = [method.journal for method in self.methods if method.journal is not None]
        runner.register_hook(NotesHook())
        runner.register_hook(RecordHook([method.metric for method in self.methods if method.journal is not None]))

    def run(self, resume: bool, unwritten: Sequence[str]) -> list[dict[str, Any]]:
        """Test what is not finished yet, and write the results."""
        before = resume_from(self.runner, self.methods, self.samples) if resume else Finished()
        start, unwritten = time.monotonic(), list(unwritten)
        try:
            self.runner.test()
        except KeyboardInterrupt as interrupt:
            traceback.clear_frames(interrupt.__traceback__)  # ends the loader's workers, before they say that they end
            self._close()
            partial = partial_result(self.methods, len(self.samples))
            raise Interrupted(getattr(interrupt, 'signum', signal.SIGINT), partial) from interrupt
        except OSError as error:  # MMEngine's own files, after the counting
            if isinstance(error, UserError) or any(m.metric is None or m.metric.counts is None for m in self.methods):
                self._close()
                raise
            unwritten.append(str(output_error(error.filename or self.config.work_dir, error, '--work-dir')))
        except BaseException:
            self._close()
            raise
        seconds = time.monotonic() - start
        own = getattr(self.loop, 'skipped', [])  # a loop of the user's has none
        skipped = {sample['key']: sample for part in all_gather_object(own) for sample in part}
        skipped |= {key: dict(image=key.partition('|')[0], reason=reason) for key, reason in before.skipped.items()}
        images = len(self.samples) - len(skipped)
        results = [method.result(images, seconds, list(skipped.values())) for method in self.methods]
        for method, result in zip(self.methods, results, strict=True):
            failed = [None]
            if is_main_process():
                try:
                    write_result(result, method.config.work_dir)
                except OutputError as error:
                    failed = [f'{error} What was counted is kept: the same command with --resume writes it.']
                    unwritten += failed
            broadcast_object_list(failed)
            if method.journal is not None:
                method.journal.close() if failed[0] else method.journal.remove()
        unwritten += [
            f'{folder.unwritten} files of {folder.what} could not be written: {folder.error}'
            for folder in (part.output_folder for part in writers_of(self.runner, self.runner.test_evaluator))
            if folder.unwritten
        ]
        unwritten = list(dict.fromkeys(sentence for part in all_gather_object(unwritten) for sentence in part))
        return [dict(result, unwritten=unwritten) for result in results]

    def _close(self) -> None:
        for journal in self.loop.journals:
            journal.close()
