"""Test many images in one process, and see whether its memory grows; Linux only."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import mmseg_sclip  # isort: skip  # noqa: F401  before anything that imports mmseg, which mmcv-lite needs
import numpy as np
from bench.meters import resident_mib
from mmengine.hooks import Hook
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from PIL import Image

from mmseg_sclip.cli.flags import add_model_flags
from mmseg_sclip.config import find_device, load_config
from mmseg_sclip.datasets.scenes import scene
from mmseg_sclip.engine.evaluation import evaluate
from mmseg_sclip.errors import ArgumentParser, UsageError, run
from mmseg_sclip.model_flags import apply_model_flags

MOST_MIB = 50
_SCENES, _SIDES = 50, (48, 192)  # the shortest and the longest side of an image in pixels


@HOOKS.register_module()
class MemoryHook(Hook):
    """Notes the memory after the warm-up and after the last image.

    Args:
        marks: Numbers of images after which it is read.
    """

    read: dict[int, float] = {}  # MiB after a number of images; of the last run

    def __init__(self, marks: Sequence[int]) -> None:
        self.marks = set(marks)
        self.read.clear()

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: Sequence | None = None
    ) -> None:
        """Read it at a mark."""
        if batch_idx + 1 in self.marks:
            self.read[batch_idx + 1] = resident_mib()
            print(f'{batch_idx + 1:>7} images: {self.read[batch_idx + 1]:.0f} MiB', flush=True)


def build_parser() -> argparse.ArgumentParser:
    """The config and the number of images."""
    parser = ArgumentParser(
        prog='tools/soak.py',
        description='Test painted scenes, each of a size of its own, in one process, and print its resident memory on '
        f'the way. The exit code is 1 where it grew by {MOST_MIB} MiB or more after the warm-up.',
    )
    parser.add_argument('config', nargs='?', default='sclip_demo', help='a config of the demo (default: sclip_demo)')
    parser.add_argument('--images', type=int, default=2000, metavar='N', help='default: 2000')
    parser.add_argument('--warm-up', type=int, default=200, metavar='N', help='images before the first reading')
    add_model_flags(parser, 'model.test_cfg.mode=whole')
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Test, and compare the readings; see `--help`.

    Raises:
        UsageError: The numbers do not fit each other.
    """
    args = build_parser().parse_intermixed_args(argv)
    if not 1 <= args.warm_up < args.images:
        raise UsageError(
            f'--images {args.images} --warm-up {args.warm_up}: the warm-up is 1 image or more, but shorter than all.'
        )
    init_default_scope('mmseg')
    config = load_config(args.config, args.cfg_options, own_modules=True)
    apply_model_flags(config, args.model_name, args.pretrained, args.weights)
    step = max(1, (args.images - args.warm_up) // 9)
    marks = [*range(args.warm_up, args.images, step), args.images]
    config.custom_hooks = [*config.get('custom_hooks', []), dict(type='MemoryHook', marks=marks)]
    with TemporaryDirectory() as folder:
        _cut_scenes(Path(folder), args.images)
        config.work_dir = str(Path(folder) / 'work')
        config.test_dataloader.update(batch_size=1, num_workers=0, persistent_workers=False)  # all in this process
        config.test_dataloader.dataset.data_root = folder
        tested = evaluate(config, find_device(args.device))['images']
    grown = MemoryHook.read[args.images] - MemoryHook.read[args.warm_up]
    print(f'{tested} images; from image {args.warm_up} on the memory grew by {grown:.1f} MiB.')
    return int(grown >= MOST_MIB)


def _cut_scenes(folder: Path, images: int) -> None:
    """Cut images and label maps of any size out of a few scenes."""
    rng = np.random.default_rng(0)
    scenes = [scene('evaluation', 0, index, _SIDES[1], 5) for index in range(_SCENES)]
    for kind in ('images', 'annotations'):
        (folder / kind).mkdir()
    for index in range(images):
        height, width = rng.integers(*_SIDES, 2, endpoint=True)
        painted = scenes[index % _SCENES]
        Image.fromarray(painted.image[:height, :width]).save(folder / 'images' / f'{index:06d}.jpg')
        Image.fromarray(painted.label[:height, :width]).save(folder / 'annotations' / f'{index:06d}.png')


if __name__ == '__main__':
    sys.exit(run(main))
