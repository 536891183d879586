"""One evaluation: from a config to `result.json`. `tools/test.py` and every row of the table tool go through it."""

from __future__ import annotations

import copy
import logging
import signal
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import all_gather_object, broadcast_object_list, get_world_size, is_main_process
from mmengine.logging import print_log

from ..checks import check_choice
from ..config import input_files
from ..datasets.building import built_parts
from ..datasets.check_files import inputs_of
from ..datasets.inspection import only_one_class
from ..errors import ConfigError, Interrupted, OutputError, UserError, output_error
from .fingerprint import digest, fingerprint, of_counts
from .ignored import ignored_labels
from .journal import Finished, Journal
from .loop import EvaluationSampler, RecordHook, SkippingPipeline
from .metric import ExactIoUMetric, image_key
from .notes_hook import NotesHook
from .preparing import bundle, name_of, prepare, use_views
from .result import class_results, finite, write_result
from .runner import build_runner, device_of

ON_ERROR = ('stop', 'skip')
_JOURNAL = 'journal'


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
        tta: Average several views of each image, by the config's `tta_model` and `tta_pipeline`.
        resume: Go on behind the images in the journal.
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
    with _quiet_logs(), _terminated_as_interrupted():
        return _Evaluation(configs, device, tta, on_error).run(resume, unwritten)


@dataclass
class _Method:
    """A config that is tested, with its metric and its journal, where it counts something."""

    config: Config
    metric: ExactIoUMetric | None
    parts: dict[str, Any]
    journal: Journal | None


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
        self.writers = [part for part in (*metrics, *runner.hooks) if hasattr(part, 'refuse_inputs')]
        inputs = [*input_files(config), *inputs_of(self.dataset)]
        for part in self.writers:
            part.refuse_inputs(inputs)
            if hasattr(part, 'prepare_outputs'):
                part.prepare_outputs([sample['img_path'] for sample in self.samples])
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
                journal = metric.journal = Journal(Path(own.work_dir) / _JOURNAL, of_counts(parts))
            self.methods.append(_Method(own, metric, parts, journal))
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
        before = self._resume() if resume else Finished()
        start, unwritten = time.monotonic(), list(unwritten)
        try:
            self.runner.test()
        except KeyboardInterrupt as interrupt:
            traceback.clear_frames(interrupt.__traceback__)  # ends the loader's workers, before they say that they end
            self._close()
            raise Interrupted(getattr(interrupt, 'signum', signal.SIGINT), self._partial()) from interrupt
        except OSError as error:  # MMEngine's own files, behind the counting
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
        results = [self._result(method, seconds, skipped) for method in self.methods]
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
            for folder in (getattr(part, 'output_folder', None) for part in self.writers)
            if folder is not None and folder.unwritten
        ]
        unwritten = list(dict.fromkeys(sentence for part in all_gather_object(unwritten) for sentence in part))
        return [dict(result, unwritten=unwritten) for result in results]

    def _close(self) -> None:
        for journal in self.loop.journals:
            journal.close()

    def _resume(self) -> Finished:
        """What the journals have; the sampler and the metrics go on behind it."""
        if len(self.loop.journals) < len(self.methods):
            raise ConfigError('--resume goes on from counts, but the evaluator of this config counts nothing.')
        if (metrics := len(self.runner.test_evaluator.metrics)) > len(self.methods):
            raise ConfigError(
                f'--resume goes on from the counts of one IoUMetric, but test_evaluator has {metrics} metrics, and the '
                'others would see the remaining images only. Leave --resume out.'
            )
        if not isinstance(self.runner.test_dataloader.sampler, EvaluationSampler):
            raise ConfigError("--resume needs the sampler of test_dataloader to be dict(type='EvaluationSampler').")
        for journal in self.loop.journals:
            journal.refuse_others()
        # The first process reads for all: another one could find records that a third has just written.
        shared = [self._read_journals() if is_main_process() else None]
        broadcast_object_list(shared)
        before = shared[0]
        index_of = {image_key(sample): index for index, sample in enumerate(self.samples)}
        self.runner.test_dataloader.sampler.done = {index_of[key] for key in before.keys}
        print_log(f'{len(before.keys)} of {len(self.samples)} images were finished before.', logger='current')
        return before

    def _read_journals(self) -> Finished:
        """What all journals have in common; the metrics of this process start from its counts."""
        keys = frozenset.intersection(*(frozenset(journal.read().keys) for journal in self.loop.journals))
        for method in self.methods:
            finished = method.journal.read(keys)
            if finished.counts is not None:
                method.metric.start_from(finished.counts)
        return finished

    def _result(self, method: _Method, seconds: float, skipped: Mapping[str, Mapping]) -> dict[str, Any]:
        counts = None if method.metric is None else method.metric.counts
        metrics = {} if counts is None else {key: finite(value) for key, value in method.metric.unrounded().items()}
        parts = method.parts
        return dict(
            config=name_of(method.config),
            images=len(self.samples) - len(skipped),
            skipped=[dict(image=each['image'], reason=each['reason']) for each in skipped.values()],
            metrics=metrics,
            classes=[] if counts is None else class_results(method.metric.dataset_meta['classes'], counts),
            versions=parts['versions'],
            device=parts['device'],
            processes=get_world_size(),
            seconds=round(seconds, 3),
            precision=(parts['weights'] or {}).get('precision', 'fp32'),
            weights=parts['weights'],
            settings=parts['settings'],
            fingerprint=digest(parts),
        )

    def _partial(self) -> str:
        """A sentence with the metrics of the images that were finished, by all processes and all runs."""
        sentences = []
        for method in self.methods:
            if method.journal is None:
                continue
            finished = method.journal.read()
            name = f'{name_of(method.config)}: ' if len(self.methods) > 1 else ''
            if finished.counts is None:
                return f'None of {len(self.samples)} images was finished.'
            method.metric.counts = finished.counts
            counted = len(finished.keys) - len(finished.skipped)
            sentences.append(
                f'{name}Partial result of {counted} of {len(self.samples)} images: mIoU '
                f'{method.metric.unrounded()["mIoU"]:.2f}.'
            )
        return ' '.join(sentences)


@contextmanager
def _quiet_logs() -> Iterator[None]:
    """Log lines that cannot be written to a full disk are on the screen; a traceback for each would hide them."""
    before, logging.raiseExceptions = logging.raiseExceptions, False
    try:
        yield
    finally:
        logging.raiseExceptions = before


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM end a test as SIGINT does, so that what was done is kept."""

    def interrupt(signum: int, frame: object) -> None:
        error = KeyboardInterrupt()
        error.signum = signum
        raise error

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
