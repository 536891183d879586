"""MMSegmentation's own scripts that make sense for a training-free method, on our configs.

The others are listed with the reason in the documentation. How `python -m mmseg_sclip SCRIPT` runs a script is tested
in tests/cli/test_light.py.
"""

import json
import runpy
from pathlib import Path

import mmseg
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.runner import Runner
from PIL import Image

from mmseg_sclip.config import load_config
from mmseg_sclip.engine.runner import isolated

TOOLS = Path(mmseg.__file__).parent / '.mim' / 'tools'
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not TOOLS.is_dir(), reason='this mmsegmentation has no tools')]


@pytest.fixture
def run_script(fresh_engine, tmp_path, monkeypatch):
    """`run_script(name, *argv)` is `python -m mmseg_sclip NAME ...`, in this process."""
    monkeypatch.chdir(tmp_path)

    def run(name, *argv):
        monkeypatch.setattr('sys.argv', ['-m', str(TOOLS / name), *map(str, argv)])
        runpy.run_module('mmseg_sclip', run_name='__main__')

    return run


@pytest.fixture
def config(tmp_path):
    """The demo with 200 small scenes."""
    config = load_config('sclip_demo')
    config.test_dataloader.num_workers = 0
    config.test_dataloader.dataset.update(count=200, size=32)
    config.model.test_cfg.crop_size = (32, 32)
    config.dump(tmp_path / 'few.py')
    return tmp_path / 'few.py'


def test_views_are_derived_for_the_plain_runner_too(run_main, config):
    """What `tools/test.py --tta` of MMSegmentation does with a config."""
    few = 'test_dataloader.dataset.indices=3'
    assert run_main(config, '--tta', '--device', 'cpu', '--cfg-options', few).code == 0
    expected = json.loads(Path('work/result.json').read_text())['metrics']
    plain = Config.fromfile(config)
    plain.merge_from_dict({'test_dataloader.dataset.indices': 3, 'work_dir': 'plain'})
    plain.test_dataloader.dataset.pipeline = plain.tta_pipeline
    plain.tta_model.module = plain.model
    plain.model = plain.tta_model
    with isolated():
        found = Runner.from_cfg(plain).test()
    assert found['mIoU'] == round(expected['mIoU'], 2)


@pytest.mark.filterwarnings('ignore:invalid value')
def test_confusion_matrix(run_main, run_script, config):
    assert run_main(config, '--max-images', 4, '--out', 'maps').code == 0
    options = 'test_dataloader.dataset.indices=4'
    run_script('analysis_tools/confusion_matrix.py', config, 'maps', 'matrix', '--cfg-options', options)
    assert np.asarray(Image.open('matrix/confusion_matrix.png')).std() > 1
