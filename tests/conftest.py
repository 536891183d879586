import copy
import gc
import os
import sys
from functools import cache as remember
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import mmseg_sclip  # isort: skip  # noqa: F401  before anything that imports mmseg, which mmcv-lite needs
import numpy as np
import pytest
import torch
from helpers import Result, peer_demos, random_peer, random_source, write_clip
from mmengine.config import Config
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer
from mmseg.visualization import SegLocalVisualizer

from mmseg_sclip.cli import main

ROOT = Path(__file__).resolve().parents[1]


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


@pytest.fixture(scope='session', autouse=True)
def quick_configs():
    """MMEngine reads each file in configs/ once, not once per config on it, and does not lay out what it logs."""
    original, folder = Config._file2dict, f'{ROOT}/configs/'
    read = remember(original)

    def read_once(filename, *args, **more):
        filename = os.path.abspath(filename)
        ours = filename.startswith(folder)
        return copy.deepcopy(read(filename, *args, **more)) if ours else original(filename, *args, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Config, '_file2dict', staticmethod(read_once))
        for place in ('yapf.yapflib.yapf_api', 'mmengine.config.config'):  # as old and new versions import it
            patch.setattr(f'{place}.FormatCode', lambda text, **_: (text, True), raising=False)
        yield


@pytest.fixture
def fresh_cache(tmp_path, monkeypatch):
    """A cache that no other test has filled."""
    folder = tmp_path / 'fresh_cache'
    monkeypatch.setenv('MMSEG_SCLIP_CACHE', str(folder))
    return folder


@pytest.fixture(scope='session')
def recipe():
    """The module that makes weights and images from numbers."""
    return load_recipe('recipe')


@pytest.fixture(scope='session')
def recipe_extra():
    """The module that makes the weights of second networks, and region maps."""
    return load_recipe('recipe_extra')


@pytest.fixture(scope='session')
def recipe_peers():
    """The module that makes the content of the checkpoints of trained peers."""
    return load_recipe('recipe_peers')


def load_recipe(name):
    loader = SourceFileLoader(name, str(ROOT / 'tests' / 'data' / f'{name}.py'))
    module = ModuleType(name)
    with pytest.MonkeyPatch.context() as patch:
        if name != 'recipe':  # which the others import by its bare name
            patch.setitem(sys.modules, 'recipe', load_recipe('recipe'))
        loader.exec_module(module)
    return module


def tensors(arrays):
    return {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}


@pytest.fixture(scope='session')
def mini_state(recipe):
    """The mini CLIP's weights of seed 0, OpenAI's names to float32 tensors; not to be changed."""
    return tensors(recipe.mini_clip_state_dict(0))


@pytest.fixture(scope='session')
def mini_clip(tmp_path_factory, mini_state):
    """The `clip` entry of a model config."""
    return write_clip(tmp_path_factory.mktemp('mini'), mini_state, 'mini')


@pytest.fixture(scope='session')
def mini_json(mini_clip):
    """An open_clip model description of the mini CLIP."""
    return Path(mini_clip['model_name'])


@pytest.fixture(scope='session')
def mini_weights(mini_clip):
    """A state dict of the mini CLIP as a .pt file."""
    return Path(mini_clip['pretrained'])


@pytest.fixture(scope='session')
def deep_clip(recipe, tmp_path_factory):
    """The twelve-layer variant of the synthetic CLIP."""
    return write_clip(tmp_path_factory.mktemp('deep'), tensors(recipe.mini_clip_state_dict(0, 12)), 'deep', layers=12)


@pytest.fixture(scope='session')
def random_clip(tmp_path_factory):
    """`random_clip(layers=12, patch_size=16)` is one source of random towers for the session; not to be changed."""
    return remember(lambda **vision: random_source(tmp_path_factory.mktemp('random'), **vision))


@pytest.fixture(scope='session')
def random_towers(random_clip):
    """`random_towers(config, layers=12)` is `random_clip(layers=12)`, or the towers of the config's trained peer."""

    def source(config, **vision):
        kind = (config.model.get('clip') or {}).get('type')
        return random_peer(kind) if kind in peer_demos() else random_clip(**vision)

    return source


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
