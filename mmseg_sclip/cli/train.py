"""`tools/train.py` and `mmseg-sclip train`: train the learned projection, the one weight that is trained."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from mmengine.dist import is_main_process

from ..config import check_is_clip, find_device, load_config
from ..datasets.check_files import check_files
from ..engine.distributed import join_processes
from ..engine.learning import check_trains, train_projection
from ..model_flags import apply_model_flags
from ..models.needed import check_weights
from ..options import refuse_overwritten
from .arguments.train import parse
from .ending import program


def main(argv: Sequence[str]) -> int:
    """Run the training; see `--help`.

    Raises:
        UsageError: The flags do not fit each other or the machine.
        ConfigError: The config is wrong, has no CLIP, or trains nothing.
        MissingFileError: Data, weights or the config are missing.
    """
    args = parse(argv)
    refuse_overwritten(args.cfg_options, {'randomness': 'the flag --seed settles it.'})
    device = find_device(args.device)
    if args.launcher != 'none':
        device = join_processes(args.launcher, device)
    config = load_config(args.config, args.cfg_options, own_modules=True)
    check_is_clip(config)
    check_trains(config)
    apply_model_flags(config, args.model_name, args.pretrained, args.weights)
    check_weights(config.model, fetch=False)
    if args.data_root:
        config.train_dataloader.dataset.data_root = args.data_root
    check_files(config.train_dataloader.dataset, 'train_dataloader')
    work_dir = Path(args.work_dir or config.get('work_dir') or Path('work_dirs') / Path(args.config).stem)
    config.launcher = args.launcher
    checkpoint = train_projection(config, work_dir, args.seed, device, args.resume)
    if not is_main_process():
        return 0
    command = [*program('test'), args.config, str(checkpoint)]
    for flag, value in (('--model-name', args.model_name), ('--pretrained', args.pretrained)):
        command += [] if value is None else [flag, value]
    for name, file in (args.weights or {}).items():
        command += ['--weights', f'{name}={file}']
    words = [word.removeprefix('--cfg-options=') for word in argv]
    options = [word for word in words if word.startswith('model.') and '=' in word]
    command += ['--cfg-options', *options] if options else []
    print(f'The checkpoint is {checkpoint.resolve()}\nTest it: {shlex.join(command)}')
    return 0
