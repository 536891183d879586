import sys
from typing import NamedTuple

import cv2
import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer
from mmseg.visualization import SegLocalVisualizer
from torch import nn

from mmseg_sclip.cli import main


class Result(NamedTuple):
    """What a person sees of a run."""

    code: int
    out: str
    err: str

    @property
    def last(self):
        return self.err.rstrip('\n').rpartition('\n')[2]


def forget_runs():
    """MMEngine keeps loggers, message hubs, scopes and visualizers by name: a second run would get the first one's."""
    for logger in MMLogger._instance_dict.values():
        for handler in logger.handlers:
            handler.close()
    for manager in (MMLogger, MessageHub, DefaultScope, Visualizer, SegLocalVisualizer):
        manager._instance_dict.clear()


class Node(nn.Module):
    """A module of which only the names count."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def write_openai_archive(path, state):
    """A TorchScript archive as OpenAI published its CLIPs: half precision, and three numbers beside the weights."""
    root = Node()
    for name, value in state.items():
        *parents, leaf = name.split('.')
        owner = root
        for parent in parents:
            if not hasattr(owner, parent):
                owner.add_module(parent, Node())
            owner = getattr(owner, parent)
        owner.register_parameter(leaf, nn.Parameter(value.half(), requires_grad=False))
    numbers = dict(input_resolution=224, context_length=77, vocab_size=49408)
    for name, value in numbers.items():
        root.register_buffer(name, torch.tensor(value))
    torch.jit.script(root).save(str(path))
    assert set(torch.jit.load(str(path)).state_dict()) == {*state, *numbers}


@pytest.fixture(scope='session')
def openai_archive():
    """`openai_archive(path, state)` writes such a file."""
    return write_openai_archive


@pytest.fixture
def fresh_engine(monkeypatch):
    """MMEngine without traces of earlier runs, and a module search path that is put back."""
    monkeypatch.setattr(sys, 'path', list(sys.path))
    forget_runs()
    yield
    forget_runs()


@pytest.fixture
def run_main(fresh_engine, tmp_path, monkeypatch, capfd):
    """`run_main(config, *flags)` is `mmseg-sclip test config *flags` in this process, which saves the imports."""
    monkeypatch.chdir(tmp_path)

    def run(config, *flags):
        forget_runs()
        capfd.readouterr()
        code = main.main(['test', str(config), '--work-dir', str(tmp_path / 'work'), *map(str, flags)])
        return Result(code, *capfd.readouterr())

    return run


@pytest.fixture(scope='session')
def small_voc(tmp_path_factory, recipe):
    """A VOC2012 folder with two images."""
    root = tmp_path_factory.mktemp('VOC2012')
    for folder in ('JPEGImages', 'SegmentationClass', 'ImageSets/Segmentation'):
        (root / folder).mkdir(parents=True)
    rng = np.random.RandomState(3)
    for number, (height, width) in enumerate(((61, 83), (90, 47))):
        cv2.imwrite(str(root / 'JPEGImages' / f'{number}.jpg'), recipe.image(number, height, width))
        labels = rng.randint(0, 21, (height, width)).astype(np.uint8)
        cv2.imwrite(str(root / 'SegmentationClass' / f'{number}.png'), labels)
    (root / 'ImageSets' / 'Segmentation' / 'val.txt').write_text('0\n1\n')
    return root
