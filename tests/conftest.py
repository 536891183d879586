import gc
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import mmseg_sclip  # isort: skip  # noqa: F401  before anything that imports mmseg, which mmcv-lite needs
import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer
from mmseg.visualization import SegLocalVisualizer

from mmseg_sclip.cli import main

ROOT = Path(__file__).resolve().parents[1]
# The architecture of tests/data/recipe.py in open_clip's words.
MINI = dict(
    embed_dim=64,
    quick_gelu=True,
    vision_cfg=dict(image_size=224, layers=3, width=128, head_width=64, patch_size=16),
    text_cfg=dict(context_length=77, vocab_size=49408, width=64, heads=1, layers=2),
)


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


def pytest_configure():
    """Two pytest processes on one machine otherwise fight over its cores."""
    torch.set_num_threads(int(os.environ.get('OMP_NUM_THREADS', 1)))


def pytest_collection_finish():
    """MMEngine collects garbage at every dataset, which is half of a short test while all modules and tests count."""
    gc.collect()
    gc.freeze()


@pytest.fixture(params=['cpu', *(['cuda'] if torch.cuda.is_available() else [])])
def device(request):
    """Every device that this machine has."""
    return torch.device(request.param)


@pytest.fixture(scope='session', autouse=True)
def cache(tmp_path_factory):
    """The folder that stands in for the user's cache, here and in subprocesses."""
    folder = tmp_path_factory.mktemp('cache')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('MMSEG_SCLIP_CACHE', str(folder))
        yield folder


@pytest.fixture
def fresh_cache(tmp_path, monkeypatch):
    """A cache that no other test has filled."""
    folder = tmp_path / 'fresh_cache'
    monkeypatch.setenv('MMSEG_SCLIP_CACHE', str(folder))
    return folder


@pytest.fixture(scope='session')
def recipe():
    """The module that makes weights and images from numbers."""
    spec = importlib.util.spec_from_file_location('recipe', ROOT / 'tests' / 'data' / 'recipe.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='session')
def mini_state(recipe):
    """The mini CLIP's weights of seed 0, OpenAI's names to float32 tensors; not to be changed."""
    return {name: torch.from_numpy(np.array(value)) for name, value in recipe.mini_clip_state_dict(0).items()}


@pytest.fixture(scope='session')
def mini_folder(tmp_path_factory):
    return tmp_path_factory.mktemp('mini')


@pytest.fixture(scope='session')
def mini_json(mini_folder):
    """An open_clip model description of the mini CLIP."""
    path = mini_folder / 'mini.json'
    path.write_text(json.dumps(MINI))
    return path


@pytest.fixture(scope='session')
def mini_weights(mini_folder, mini_state):
    """A state dict of the mini CLIP as a .pt file."""
    path = mini_folder / 'mini.pt'
    torch.save(mini_state, path)
    return path


@pytest.fixture(scope='session')
def mini_clip(mini_json, mini_weights):
    """The `clip` entry of a model config."""
    return dict(model_name=str(mini_json), pretrained=str(mini_weights))


@pytest.fixture(scope='session')
def deep_clip(recipe, mini_json, tmp_path_factory):
    """The twelve-layer variant of the synthetic CLIP."""
    folder = tmp_path_factory.mktemp('deep')
    description = json.loads(mini_json.read_text())
    description['vision_cfg']['layers'] = 12
    (folder / 'deep.json').write_text(json.dumps(description))
    state = {name: torch.from_numpy(np.array(value)) for name, value in recipe.mini_clip_state_dict(0, 12).items()}
    torch.save(state, folder / 'deep.pt')
    return dict(model_name=str(folder / 'deep.json'), pretrained=str(folder / 'deep.pt'))


@pytest.fixture(scope='session')
def run_tool():
    """`run_tool(*argv, cwd=None, env=None)` runs tools/test.py as a person would, and returns the finished process."""

    def run(*argv, cwd=None, env=None):
        environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1', 'COLUMNS': '200', **(env or {})}
        return subprocess.run(
            [sys.executable, str(ROOT / 'tools' / 'test.py'), *map(str, argv)],
            cwd=cwd,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


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
