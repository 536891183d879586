"""`tools/compare_methods.py` and `mmseg-sclip compare-methods`: many methods on one dataset, in few passes."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import is_main_process
from rich.console import Console
from rich.markdown import Markdown

from ..ablation.protocols import common_protocol
from ..comparing.method_table import FILES, method_table, write_method_table
from ..comparing.runs import Run, evaluate_runs
from ..comparing.tables import check_table_files
from ..config import apply_data_flags, check_checkpoint, find_device, load_config, override
from ..engine.distributed import join_processes
from ..model_flags import apply_model_flags_to_all
from ..options import name_companions, own_options, refuse_overwritten
from .arguments.compare_methods import parse
from .ending import tell_losses, telling_how_to_go_on


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
    runs = _runs(args, folder)
    check_table_files(folder, FILES)
    with telling_how_to_go_on('compare-methods', argv, args.launcher):
        evaluate_runs(runs, device, args.resume, args.on_error)
    if is_main_process():
        table, _ = write_method_table(runs, folder)
        Console(highlight=False).print(Markdown(method_table(runs)))
        print(f'The table is {table.resolve()}')
        tell_losses([run.result for run in runs], 'The evaluation is done')
    return 0


def _runs(args: argparse.Namespace, folder: Path) -> list[Run]:
    """Each method under each protocol on scenes of each seed, with its config in a folder of its own."""
    runs = [
        Run(method=Path(name).stem, dataset=args.dataset, protocol=protocol, seed=seed)
        for seed in dict.fromkeys(args.seeds or [None])
        for protocol in dict.fromkeys(args.protocol)
        for name in args.methods
    ]
    names = {Path(name).stem: name for name in args.methods}
    options = dict.fromkeys(names, args.cfg_options or {})
    if name_companions(args.cfg_options):
        plain = {run.method: _load(names[run.method], run, args, {}) for run in runs}
        options = {name: own_options(config, args.cfg_options, list(plain.values())) for name, config in plain.items()}
    for run in runs:
        run.config = _configure(names[run.method], run, args, folder, options[run.method])
    named = [(run.method, run.config) for run in runs]
    apply_model_flags_to_all(named, args.model_name, args.pretrained, args.weights)
    return runs


def _load(name: str, run: Run, args: argparse.Namespace, options: Mapping) -> Config:
    own_file = Path(name).suffix == '.py'
    if own_file or run.protocol == 'own':
        return load_config(name if own_file else f'{name}_{args.dataset}', options, own_modules=True)
    config = common_protocol(name, args.dataset)
    override(config, options)
    return config


def _configure(name: str, run: Run, args: argparse.Namespace, folder: Path, options: Mapping) -> Config:
    config = _load(name, run, args, options)
    check_checkpoint(config, f'It is the load_from of {name}: correct the path.')
    apply_data_flags(config, args.data_root, args.max_images, args.bands)
    if run.seed is not None:
        config.test_dataloader.dataset.seed = run.seed
        folder = folder / f'seed{run.seed}'
    config.work_dir = str(folder / run.protocol / run.method)
    config.launcher = args.launcher
    config.default_hooks = {**(config.get('default_hooks') or {}), 'progress': dict(type='ProgressHook')}
    return config
