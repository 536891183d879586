"""`tools/compare_methods.py` and `mmseg-sclip compare-methods`: many methods on one dataset, in few passes."""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.registry import init_default_scope
from rich.console import Console
from rich.markdown import Markdown

from ..ablation.protocols import common_protocol
from ..ablation.report import EMPTY
from ..ablation.running import kept_result
from ..config import apply_clip_flags_to_all, apply_data_flags, check_checkpoint, find_device, load_config, override
from ..engine.distributed import join_processes
from ..engine.evaluation import evaluate_methods
from ..engine.fingerprint import digest, fingerprint
from ..engine.preparing import passes, prepare
from ..engine.runner import isolated
from ..files import MARK, refuse_taken, write_atomically
from ..options import refuse_overwritten
from .arguments.compare_methods import PROTOCOLS, parse
from .ending import tell_losses, telling_how_to_go_on

_FILES = ('methods.md', 'methods.json')
_METRICS = ('mIoU', 'aAcc', 'mAcc')


@dataclass
class _Run:
    """A method under a protocol, on the dataset or on scenes of the demo of one seed."""

    method: str
    protocol: str
    seed: int | None
    config: Config
    number: int = 0  # of its pass
    result: dict[str, Any] | None = None

    def as_dict(self, folder: Path) -> dict[str, Any]:
        """The entry of `methods.json`."""
        return dict(
            method=self.method,
            protocol=self.protocol,
            seed=self.seed,
            images=self.result['images'],
            **{key: self.result['metrics'].get(key) for key in _METRICS},
            **{'pass': self.number},
            seconds_of_the_pass=self.result['seconds'],
            result=str((Path(self.config.work_dir) / 'result.json').relative_to(folder)),
        )


def main(argv: Sequence[str]) -> int:
    """Test the methods, and write the table; see `--help`.

    Raises:
        UsageError: The flags do not fit each other.
        ConfigError: A config is wrong.
        MissingFileError: Data, weights or a config are missing.
        OutputError: The folder holds files of the same names that are not ours, or something could not be written.
    """
    args = parse(argv)
    refuse_overwritten(args.cfg_options, {'work_dir': 'each method has a folder in --out.'})
    device = find_device(args.device)
    if args.launcher != 'none':
        device = join_processes(args.launcher, device)
    folder = Path(args.out or Path('work_dirs') / f'methods_{args.dataset}')
    for name in _FILES:
        refuse_taken(folder / name, '--out')
    runs = [
        _Run(Path(name).stem, protocol, seed, _configure(name, protocol, seed, args, folder))
        for seed in dict.fromkeys(args.seeds or [None])
        for protocol in dict.fromkeys(args.protocol)
        for name in args.methods
    ]
    apply_clip_flags_to_all([(run.method, run.config) for run in runs], args.model_name, args.pretrained)
    with telling_how_to_go_on('compare-methods', argv, args.launcher):
        for number, group in enumerate(passes([run.config for run in runs]), 1):
            configs = [runs[index].config for index in group]
            results = _finished(configs, device, args.on_error) if args.resume else None
            if results is None:
                with isolated():
                    results = evaluate_methods(configs, device, args.resume, args.on_error)
            for index, result in zip(group, results, strict=True):
                runs[index].number, runs[index].result = number, result
    if is_main_process():
        _report(args, folder, runs)
        tell_losses([run.result for run in runs], 'The evaluation is done')
    return 0


def _configure(name: str, protocol: str, seed: int | None, args: argparse.Namespace, folder: Path) -> Config:
    own_file = Path(name).suffix == '.py'
    if own_file or protocol == 'own':
        config = load_config(name if own_file else f'{name}_{args.dataset}', args.cfg_options, own_modules=True)
    else:
        config = common_protocol(name, args.dataset)
        override(config, args.cfg_options or {})
    check_checkpoint(config, f'It is the load_from of {name}: correct the path.')
    apply_data_flags(config, args.data_root, args.max_images, args.bands)
    if seed is not None:
        config.test_dataloader.dataset.seed = seed
        folder = folder / f'seed{seed}'
    config.work_dir = str(folder / protocol / Path(name).stem)
    config.launcher = args.launcher
    config.default_hooks = {**(config.get('default_hooks') or {}), 'progress': dict(type='ProgressHook')}
    return config


def _finished(configs: Sequence[Config], device: torch.device | None, on_error: str) -> list[dict[str, Any]] | None:
    """The results of a pass that is finished already; every process gets the first one's answer."""
    results = []
    with isolated():
        init_default_scope('mmseg')
        for config in copy.deepcopy(configs):
            prepare(config, on_error)  # a result has the fingerprint of what was tested
            results.append(kept_result(config.work_dir, digest(fingerprint(config, device))))
    broadcast_object_list(results)
    return None if None in results else results


def _report(args: argparse.Namespace, folder: Path, runs: Sequence[_Run]) -> None:
    """Print and write the table."""
    methods, protocols = (list(dict.fromkeys(getattr(run, key) for run in runs)) for key in ('method', 'protocol'))
    seeds = f', scenes of seeds {", ".join(map(str, args.seeds))}' if args.seeds else ''
    note = ' With several seeds, a value is their mean, and the smallest to the largest.' if args.seeds else ''
    columns = [(protocol, metric) for protocol in protocols for metric in _METRICS]
    lines = [
        f'mIoU, aAcc and mAcc in percent. {args.dataset}, {runs[0].result["images"]} images{seeds}.{note}',
        '',
        *(f'- {protocol}: {PROTOCOLS[protocol]}' for protocol in protocols),
        '',
        f'| method | {" | ".join(f"{metric} {protocol}" for protocol, metric in columns)} |',
        f'|---{"|--:" * len(columns)}|',
    ]
    for method in methods:
        cells = []
        for protocol, metric in columns:
            same = [run for run in runs if (run.method, run.protocol) == (method, protocol)]
            values = [value for run in same if (value := run.result['metrics'].get(metric)) is not None]
            spread = f' ({min(values):.2f}–{max(values):.2f})' if values[1:] else ''
            cells.append(f'{mean(values):.2f}{spread}' if values else EMPTY)
        lines.append(f'| {method} | {" | ".join(cells)} |')
    seconds = {run.number: run for run in runs}
    sizes = {number: sum(run.number == number for run in runs) for number in seconds}
    names = {n: run.method if sizes[n] == 1 else f'{sizes[n]} methods' for n, run in seconds.items()}
    lines += ['', *(f'- pass {n}: {names[n]}, {run.result["seconds"]:.1f} s' for n, run in seconds.items())]
    with write_atomically(folder / _FILES[0], '--out') as unfinished:
        unfinished.write_text('\n'.join([*lines, '', f'<!-- {MARK} -->']) + '\n', encoding='utf-8')
    with write_atomically(folder / _FILES[1], '--out') as unfinished:
        found = dict(methods=[run.as_dict(folder) for run in runs], software=MARK)
        unfinished.write_text(json.dumps(found, indent=1) + '\n', encoding='utf-8')
    Console(highlight=False).print(Markdown('\n'.join(lines)))
    print(f'The table is {(folder / _FILES[0]).resolve()}')
