"""One config: the plain way and ours, side by side."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.structures import PixelData
from mmseg.evaluation import IoUMetric
from torch import Tensor

from ..engine import ExactIoUMetric
from ..flops import count
from ..models import SCLIPSegmentor
from ..models.clip.config import PRECISIONS
from . import plain
from .inputs import Item, build_model
from .measure import Stages, peak_gflops, peak_mib, seconds
from .start import Start, empty_text_cache, measure_start

WAYS = ('plain', 'ours')


@dataclass
class Timing:
    """Seconds of each image in each repetition, and what was found.

    Attributes:
        seconds: By image, in the order of the repetitions.
        labels: (H, W) of each image.
        peak_mib: Peak memory above the model's own; None where it cannot be read.
    """

    seconds: list[list[float]]
    labels: list[Tensor | None]
    peak_mib: float | None = None

    @classmethod
    def of(cls, images: int) -> Timing:
        """Nothing yet."""
        return cls([[] for _ in range(images)], [None] * images)

    @property
    def s_per_image(self) -> float:
        """The mean over images of the medians over repetitions."""
        return statistics.mean(map(statistics.median, self.seconds))

    @property
    def spread(self) -> tuple[float, float]:
        """The least and the most that a repetition took, the mean over images each."""
        return statistics.mean(map(min, self.seconds)), statistics.mean(map(max, self.seconds))


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
    report: Callable[[str], None] = field(default=lambda line: None)


def measure(setting: Setting) -> list[dict[str, Any]]:
    """Time the plain way once and ours in each precision, alternating; one result a precision.

    Raises:
        ValueError: The config asks for what the plain way does not do.
    """
    config, device = setting.config, setting.device
    setting.report('weights')
    with empty_text_cache():
        models = {name: build_model(config, name, device) for name in dict.fromkeys(('fp32', *setting.precisions))}
        plain.check(models['fp32'], config)
        for model in models.values():
            model.decode_head.encode_vocabulary(device)
    setting.report('start-up, plain')  # first, so that it pays what every first call pays
    slow = measure_start(config, None, device)
    start = {}
    for name in setting.precisions:
        setting.report(f'start-up, {name}')
        start[name] = measure_start(config, name, device)
    runs = {'plain': lambda item: run_plain(models['fp32'], item)}
    for name in setting.precisions:
        runs[name] = lambda item, model=models[name]: run_ours(model, item)
    timings = {name: Timing.of(len(setting.items)) for name in runs}
    for name, run in runs.items():  # warm-up, and the peak of memory
        setting.report(f'memory of {name}')
        run(setting.items[0]) if device.type == 'cuda' else None
        timings[name].peak_mib = peak_mib(lambda run=run: run(setting.items[0]), device)
    for repeat in range(setting.repeats):
        for index, item in enumerate(setting.items):
            for name, run in runs.items():
                setting.report(f'{name}, image {index + 1}, repetition {repeat + 1} of {setting.repeats}')
                taken, labels = seconds(lambda run=run, item=item: run(item), device)
                timings[name].seconds[index].append(taken)
                timings[name].labels[index] = labels.cpu()
    return [
        _result(setting, name, models[name], timings['plain'], timings[name], slow, start[name])
        for name in setting.precisions
    ]


@torch.no_grad()
def run_ours(model: SCLIPSegmentor, item: Item, stages: Stages | None = None) -> Tensor:
    """Labels (H, W) as `tools/test.py` makes them, decoding and evaluation included."""
    stages = stages or Stages(torch.device('cpu'))
    with stages.stage('load'):
        data = item.load()
        data = model.data_preprocessor(dict(inputs=[data['inputs']], data_samples=[data['data_samples']]))
    (result,) = model.predict(**data)
    labels = result.pred_sem_seg.data[0]
    with stages.stage('evaluation'):
        ExactIoUMetric.intersect_and_union(labels, _truth(result, labels), model.num_classes, 255)
    return labels


@torch.no_grad()
def run_plain(model: SCLIPSegmentor, item: Item) -> Tensor:
    """Labels (H, W), the plain way; decoding and MMSeg's evaluation included."""
    data = item.load()
    sample = data['data_samples']
    data = model.data_preprocessor(dict(inputs=[data['inputs']], data_samples=[sample]))
    labels = plain.predict(model, data['inputs'][0], sample.ori_shape[:2])
    IoUMetric.intersect_and_union(labels, _truth(sample, labels), model.num_classes, 255)
    return labels


def _truth(sample: Any, labels: Tensor) -> Tensor:
    """The ground truth (H, W); where there is none the prediction, so that something is counted."""
    found: PixelData | None = sample.get('gt_sem_seg')
    return labels if found is None else found.data.squeeze(0).to(labels)


def measure_stages(setting: Setting, model: SCLIPSegmentor) -> dict[str, float]:
    """Seconds an image in each stage of ours: the median over repetitions, the mean over images."""
    each: dict[str, list[float]] = {}
    for item in setting.items:
        repeated: dict[str, list[float]] = {}
        for _ in range(setting.repeats):
            stages = Stages(setting.device)
            with stages.watching(
                vit0=(model.backbone, 'record'),
                vit1=(model.backbone, 'decode'),
                text=(model.decode_head, 'forward'),
                network=(model, '_score_images'),
                pixels=(model, '_label'),
            ):
                run_ours(model, item, stages)
            found = stages.seconds
            found['windows'] = found.pop('network') - found['vit'] - found['text']
            for name, value in found.items():
                repeated.setdefault(name, []).append(value)
        for name, values in repeated.items():
            each.setdefault(name, []).append(statistics.median(values))
    return {name: statistics.mean(each[name]) for name in ('load', 'windows', 'vit', 'text', 'pixels', 'evaluation')}


def miou(labels: Sequence[Tensor], items: Sequence[Item], classes: int) -> float | None:
    """The mIoU in percent over the images; None where one has no ground truth."""
    counts = []
    for found, item in zip(labels, items, strict=True):
        truth = item.load()['data_samples'].get('gt_sem_seg')
        if truth is None:
            return None
        counts.append(ExactIoUMetric.intersect_and_union(found, truth.data.squeeze(0), classes, 255)[:2])
    intersect, union = (sum(count).double() for count in zip(*counts, strict=True))
    return 100 * (intersect / union)[union > 0].mean().item()


def _result(
    setting: Setting,
    precision: str,
    model: SCLIPSegmentor,
    slow: Timing,
    fast: Timing,
    plain_start: Start,
    start: Start,
) -> dict[str, Any]:
    setting.report(f'stages of {precision}')
    stages = measure_stages(setting, model)
    peak = peak_gflops(PRECISIONS[precision], setting.device)
    costs = [count(setting.config, item.size) for item in setting.items]
    vit_gflops = 2 * statistics.mean(cost.per_image for cost in costs) / stages['vit']
    windows = statistics.mean(cost.windows for cost in costs)
    same = [(a == b).double().mean().item() for a, b in zip(slow.labels, fast.labels, strict=True)]
    scores = [miou(way.labels, setting.items, model.num_classes) for way in (slow, fast)]
    return dict(
        config=Path(setting.config.filename).stem,
        size=list(setting.items[0].size),
        images=len(setting.items),
        windows=windows,
        queries=model.out_channels,
        precision=precision,
        device=_device_name(setting.device),
        threads=torch.get_num_threads(),
        plain=dict(s_per_image=slow.s_per_image, spread=slow.spread, start_s=plain_start.cold, peak_mib=slow.peak_mib),
        ours=dict(
            s_per_image=fast.s_per_image,
            spread=fast.spread,
            start_s=start.cold,
            warm_start_s=start.warm,
            peak_mib=fast.peak_mib,
            stages=stages,
        ),
        ratio=dict(
            s_per_image=slow.s_per_image / fast.s_per_image,
            start_cold=plain_start.cold / start.cold,
            peak=None if not fast.peak_mib or slow.peak_mib is None else slow.peak_mib / fast.peak_mib,
        ),
        equal_pixels=statistics.mean(same),
        miou=None if None in scores else dict(zip(WAYS, scores, strict=True)),
        peak_gflops=peak,
        vit_gflops=vit_gflops,
        vit_share_of_peak=vit_gflops / peak,
    )


def _device_name(device: torch.device) -> str:
    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    info = Path('/proc/cpuinfo')
    names = (
        [line.split(':', 1)[1].strip() for line in info.read_text().splitlines() if line.startswith('model name')]
        if info.is_file()
        else []
    )
    return names[0] if names else device.type
