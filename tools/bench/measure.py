"""One config: the plain way and ours, side by side."""

from __future__ import annotations

import copy
import os
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmseg.evaluation import IoUMetric
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from reference import Reference
from torch import Tensor

from bench.inputs import Item, build_model
from bench.meters import Stages, peak_gflops, peak_mib, seconds
from bench.plain import check, encode_phrase
from mmseg_sclip.engine import ExactIoUMetric
from mmseg_sclip.engine.fingerprint import device_name
from mmseg_sclip.engine.flops import count
from mmseg_sclip.errors import UsageError
from mmseg_sclip.models import SCLIPSegmentor
from mmseg_sclip.models.clip import ClipSource
from mmseg_sclip.models.clip.config import PRECISIONS
from mmseg_sclip.models.text import load_templates, load_vocabulary

PLAIN_PHRASES = 8  # the plain way's start is timed on these and scaled
STAGES = ('load', 'windows', 'vit', 'text', 'pixels', 'evaluation')


@dataclass
class Setting:
    """What is compared.

    Attributes:
        config: With its weights.
        items: Images.
        precisions: Of ours; the plain way is float32.
        repeats: Times that each image runs.
        device: Of both.
        report: Called with a line of progress.
    """

    config: Config
    items: Sequence[Item]
    precisions: Sequence[str]
    repeats: int
    device: torch.device
    report: Callable[[str], None]


@dataclass
class Timing:
    """Seconds of each image in each repetition, and the labels (H, W) of each.

    Attributes:
        seconds: By image, in the order of the repetitions.
        labels: Of the last repetition.
        peak_mib: Peak memory above the model's own; None where it cannot be read.
    """

    seconds: list[list[float]]
    labels: list[Tensor | None]
    peak_mib: float | None = None

    @property
    def s_per_image(self) -> float:
        """The mean over images of the medians over repetitions."""
        return statistics.mean(map(statistics.median, self.seconds))

    @property
    def spread(self) -> tuple[float, float]:
        """The least and the most that a repetition took, the mean over images each."""
        return statistics.mean(map(min, self.seconds)), statistics.mean(map(max, self.seconds))


def measure(setting: Setting) -> list[dict[str, Any]]:
    """Time the plain way once and ours in each precision, alternating; one result per precision.

    Raises:
        ConfigError: The config asks for what the plain way does not do.
    """
    config, device = setting.config, setting.device
    setting.report('weights')
    with empty_cache():
        models = {name: build_model(config, name, device) for name in dict.fromkeys(('fp32', *setting.precisions))}
        check(models['fp32'], config)
        for model in models.values():
            model.decode_head.encode_vocabulary(device)
    setting.report('start-up, plain')  # first, so that it pays what every first call pays
    starts = {'plain': (plain_start(config, device), None)}
    for name in setting.precisions:
        setting.report(f'start-up, {name}')
        starts[name] = own_start(config, name, device)
    plain = Reference(models['fp32'])
    runs: dict[str, Callable[[Item], Tensor]] = {'plain': lambda item: run_plain(plain, item)}
    for name in setting.precisions:
        runs[name] = lambda item, model=models[name]: run_ours(model, item, Stages(torch.device('cpu')))
    timings = alternate(setting, runs)
    return [_result(setting, name, models[name], timings, starts) for name in setting.precisions]


def alternate(setting: Setting, runs: Mapping[str, Callable[[Item], Tensor]]) -> dict[str, Timing]:
    """Time several ways to label, one after the other on each image, in each repetition."""
    device, number = setting.device, len(setting.items)
    timings = {name: Timing([[] for _ in range(number)], [None] * number) for name in runs}
    for name, run in runs.items():  # warm-up, and the peak of memory
        setting.report(f'memory of {name}')
        if device.type == 'cuda':
            run(setting.items[0])
        timings[name].peak_mib = peak_mib(lambda run=run: run(setting.items[0]), device)
    for repeat in range(setting.repeats):
        for index, item in enumerate(setting.items):
            for name, run in runs.items():
                setting.report(f'repetition {repeat + 1} of {setting.repeats}, image {index + 1} of {number}, {name}')
                taken, labels = seconds(lambda run=run, item=item: run(item), device)
                timings[name].seconds[index].append(taken)
                timings[name].labels[index] = labels.cpu()
    return timings


@torch.no_grad()
def run_ours(model: SCLIPSegmentor, item: Item, stages: Stages) -> Tensor:
    """Labels (H, W) as `tools/test.py` makes them, decoding and evaluation included."""
    with stages.stage('load'):
        image, sample = load(model, item)
    with stages.stage('score'):
        (scores,) = model.score([image], [sample])
    with stages.stage('pixels'):
        labels = model.label(scores, image, sample).pred_sem_seg.data[0]
    with stages.stage('evaluation'):
        evaluate_labels(labels, sample, model.num_classes)
    return labels


def load(model: BaseModel, item: Item) -> tuple[Tensor, SegDataSample]:
    """The normalised image (3, H, W) of an item, and its sample."""
    data = item.load()
    data = model.data_preprocessor(dict(inputs=[data['inputs']], data_samples=[data['data_samples']]))
    (image,), (sample,) = data['inputs'], data['data_samples']
    return image, sample


def evaluate_labels(labels: Tensor, sample: Any, classes: int) -> None:
    """Count labels (H, W) as the evaluation does."""
    ExactIoUMetric.intersect_and_union(labels, _truth(sample, labels), classes, 255)


@torch.no_grad()
def run_plain(plain: Reference, item: Item) -> Tensor:
    """Labels (H, W), the plain way; decoding and MMSeg's evaluation included."""
    image, sample = load(plain.model, item)
    labels = plain.predict(image, sample.ori_shape[:2])
    IoUMetric.intersect_and_union(labels, _truth(sample, labels), plain.model.num_classes, 255)
    return labels


def _truth(sample: Any, labels: Tensor) -> Tensor:
    """The ground truth (H, W); where there is none the prediction, so that something is counted."""
    truth = sample.get('gt_sem_seg')
    return labels if truth is None else truth.data.squeeze(0).to(labels)


@contextmanager
def empty_cache() -> Iterator[None]:
    """Keep encoded phrases in a folder of their own meanwhile; weights stay in the caches of open_clip."""
    usual = os.environ.get('MMSEG_SCLIP_CACHE')
    with TemporaryDirectory() as folder:
        os.environ['MMSEG_SCLIP_CACHE'] = folder
        try:
            yield
        finally:
            del os.environ['MMSEG_SCLIP_CACHE']
            os.environ.update({} if usual is None else {'MMSEG_SCLIP_CACHE': usual})


def own_start(config: Config, precision: str, device: torch.device) -> tuple[float, float]:
    """Seconds from the config to a text bank, from nothing and from the disk cache; the image tower is not in it."""
    if config.model.clip.get('cache_dir') is not None:
        raise UsageError('The benchmark empties the cache of words, and clip.cache_dir names one. Leave it out.')

    def ready() -> None:
        head = copy.deepcopy(config.model.decode_head)
        head.clip = dict(config.model.clip, precision=precision)
        MODELS.build(head).encode_vocabulary(device)

    with empty_cache():
        return seconds(ready, device)[0], statistics.median(seconds(ready, device)[0] for _ in range(3))


def plain_start(config: Config, device: torch.device) -> float:
    """The same for the plain way, scaled from `PLAIN_PHRASES` phrases to all."""
    phrases = load_vocabulary(config.model.decode_head.vocabulary).distinct
    templates = load_templates(config.model.decode_head.get('templates', 'openai_imagenet'))

    def build() -> tuple:
        source = ClipSource(**{**config.model.clip, 'precision': 'fp32'})
        return source.text_tower().to(device), source.text_encoder().tokenizer()

    loading, (tower, tokenizer) = seconds(build, device)
    some = phrases[:PLAIN_PHRASES]
    encoding = seconds(lambda: [encode_phrase(tower, tokenizer, phrase, templates) for phrase in some], device)[0]
    return loading + encoding / len(some) * len(phrases)


def measure_stages(setting: Setting, model: SCLIPSegmentor) -> dict[str, float]:
    """Seconds an image in each stage of ours: the median over repetitions, the mean over images.

    `windows` is what scoring takes beside the tower and the head: cutting, the embedding of patches, matrices.
    """
    means: dict[str, list[float]] = {name: [] for name in STAGES}
    for item in setting.items:
        repeated: dict[str, list[float]] = {name: [] for name in STAGES}
        for _ in range(setting.repeats):
            stages = Stages(setting.device)
            with stages.watching(model):
                run_ours(model, item, stages)
            taken = stages.seconds
            taken['windows'] = taken['score'] - taken['vit'] - taken['text']
            for name in STAGES:
                repeated[name].append(taken[name])
        for name, values in repeated.items():
            means[name].append(statistics.median(values))
    return {name: statistics.mean(values) for name, values in means.items()}


def miou(labels: Sequence[Tensor], items: Sequence[Item], classes: int) -> float | None:
    """The mIoU in percent over the images; None where one has no ground truth."""
    counts = []
    for guess, item in zip(labels, items, strict=True):
        truth = item.load()['data_samples'].get('gt_sem_seg')
        if truth is None:
            return None
        counts.append(ExactIoUMetric.intersect_and_union(guess, truth.data.squeeze(0), classes, 255)[:2])
    intersect, union = (sum(count).double() for count in zip(*counts, strict=True))
    return 100 * (intersect / union)[union > 0].mean().item()


def _result(
    setting: Setting,
    precision: str,
    model: SCLIPSegmentor,
    timings: dict[str, Timing],
    starts: dict[str, tuple[float, float | None]],
) -> dict[str, Any]:
    setting.report(f'stages of {precision}')
    slow, fast = timings['plain'], timings[precision]
    stages = measure_stages(setting, model)
    peak = peak_gflops(PRECISIONS[precision], setting.device)
    costs = [count(setting.config, item.size) for item in setting.items]
    vit_gflops = 2 * statistics.mean(cost.per_image for cost in costs) / stages['vit']
    same = [(a == b).double().mean().item() for a, b in zip(slow.labels, fast.labels, strict=True)]
    scores = [miou(way.labels, setting.items, model.num_classes) for way in (slow, fast)]
    (cold, warm), plain_cold = starts[precision], starts['plain'][0]
    return dict(
        config=Path(setting.config.filename).stem,
        size=list(setting.items[0].size),
        images=len(setting.items),
        windows=statistics.mean(cost.windows for cost in costs),
        queries=model.out_channels,
        precision=precision,
        device=device_label(setting.device),
        threads=torch.get_num_threads(),
        plain=dict(s_per_image=slow.s_per_image, spread=slow.spread, start_s=plain_cold, peak_mib=slow.peak_mib),
        ours=dict(
            s_per_image=fast.s_per_image,
            spread=fast.spread,
            start_s=cold,
            warm_start_s=warm,
            peak_mib=fast.peak_mib,
            stages=stages,
        ),
        ratio=dict(
            s_per_image=slow.s_per_image / fast.s_per_image,
            start_cold=plain_cold / cold,
            peak=None if not fast.peak_mib or slow.peak_mib is None else slow.peak_mib / fast.peak_mib,
        ),
        equal_pixels=statistics.mean(same),
        miou=None if None in scores else dict(zip(('plain', 'ours'), scores, strict=True)),
        peak_gflops=peak,
        vit_gflops=vit_gflops,
        vit_share_of_peak=vit_gflops / peak,
    )


def device_label(device: torch.device) -> str:
    """The name of the GPU, or of the processor."""
    info = Path('/proc/cpuinfo')
    lines = info.read_text().splitlines() if device.type == 'cpu' and info.is_file() else []
    names = [line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')]
    return names[0] if names else device_name(device)
