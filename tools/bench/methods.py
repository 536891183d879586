"""Several methods on one dataset: each alone and all in one pass, side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from mmengine.config import Config
from mmseg.registry import MODELS
from rich.console import Console
from rich.table import Table
from torch import Tensor

from bench.inputs import Item
from bench.measure import Setting, Timing, alternate, device_label, empty_cache, evaluate_labels, load, run_ours
from bench.meters import Stages
from mmseg_sclip.engine.sharing import bundle
from mmseg_sclip.models.segmentors import MethodBundle

_TOGETHER = 'all in one pass'


def measure_methods(setting: Setting, configs: Mapping[str, Config]) -> list[dict[str, Any]]:
    """Time methods alone and all in one pass, alternating, in each precision; one result per precision.

    Args:
        setting: What they share; its own config is not run.
        configs: By the name of the method, see `common_protocol`.

    Raises:
        ConfigError: They do not share their images.
    """
    return [_measure(setting, configs, precision) for precision in setting.precisions]


def _measure(setting: Setting, configs: Mapping[str, Config], precision: str) -> dict[str, Any]:
    setting.report('weights')
    entry = bundle([*configs.values()]).model
    for method in entry.methods.values():
        method.clip.precision = precision
    with empty_cache():
        model = MODELS.build(entry).to(setting.device).eval()
        for method in model.methods:
            method.decode_head.encode_vocabulary(setting.device)
    # Alone, a method has the weights that it has together with the others.
    runs: dict[str, Callable[[Item], Tensor]] = {
        name: lambda item, method=method: run_ours(method, item, Stages(torch.device('cpu')))
        for name, method in zip(configs, model.methods, strict=True)
    }
    timings = alternate(setting, {**runs, _TOGETHER: lambda item: run_together(model, item)})
    joint = timings.pop(_TOGETHER)
    return dict(
        size=list(setting.items[0].size),
        images=len(setting.items),
        precision=precision,
        device=device_label(setting.device),
        threads=torch.get_num_threads(),
        methods=[
            dict(name=name, equal_pixels=_equal(timing, joint, index), **_figures(timing))
            for index, (name, timing) in enumerate(timings.items())
        ],
        together=_figures(joint),
    )


@torch.no_grad()
def run_together(model: MethodBundle, item: Item) -> Tensor:
    """Labels (methods, H, W), as a test of several methods makes them, decoding and evaluation included."""
    image, sample = load(model, item)
    model([image], [sample])
    labels = [sample.get(MethodBundle.prediction(index)).data[0] for index in range(len(model.methods))]
    for own, method in zip(labels, model.methods, strict=True):
        evaluate_labels(own, sample, method.num_classes)
    return torch.stack(labels)


def print_methods(results: Sequence[dict[str, Any]], console: Console) -> None:
    """One table for each precision."""
    for result in results:
        first = result['methods'][0]
        title = (
            f'{result["size"][0]} x {result["size"][1]} pixels, {result["images"]} images, {result["precision"]}; '
            f'{result["device"]}, {result["threads"]} threads'
        )
        table = Table(title=title, title_justify='left')
        for name in ('', 's an image', 'spread', f'times {first["name"]}', 'same labels'):
            table.add_column(name, justify='right' if name else 'left', no_wrap=not name)
        alone = sum(method['s_per_image'] for method in result['methods'])
        rows = [(m['name'], m, f'{100 * m["equal_pixels"]:.3f} %') for m in result['methods']]
        for name, figures, same in [*rows, (_TOGETHER, result['together'], '')]:
            taken, spread = figures['s_per_image'], '{:.3f} to {:.3f}'.format(*figures['spread'])
            table.add_row(name, f'{taken:.3f}', spread, f'{taken / first["s_per_image"]:.2f}', same)
        table.add_row('one by one', f'{alone:.3f}', '', f'{alone / first["s_per_image"]:.2f}', '')
        console.print(table)


def _figures(timing: Timing) -> dict[str, Any]:
    return dict(s_per_image=timing.s_per_image, spread=timing.spread)


def _equal(alone: Timing, joint: Timing, index: int) -> float:
    """The share of pixels to which a method gives the same label alone and with the others."""
    pairs = zip(alone.labels, joint.labels, strict=True)
    return torch.cat([(own == all_[index]).flatten() for own, all_ in pairs]).double().mean().item()
