"""The flags of tools/test.py; what it writes is tested in tests/end_to_end."""

import json

import numpy as np
import pytest
from PIL import Image

from mmseg_sclip.engine.journal import Journal
from mmseg_sclip.paths import config_path

FEW = ('--cfg-options', 'test_dataloader.num_workers=0', 'test_dataloader.dataset.count=2')


@pytest.mark.slow
def test_tta(run_main, tmp_path):
    """A single view gives the plain result, and two give another one."""
    (tmp_path / 'own.py').write_text(
        f'_base_ = [{str(config_path("sclip_demo"))!r}]\n'
        "views = [[dict(type='LoadAnnotations')], [dict(type='PackSegInputs')]]\n"
        "tta_pipeline = [dict(type='LoadImageFromFile'), dict(type='TestTimeAug', transforms=views)]"
    )
    maps, words = {}, {}
    for name, flags in dict(plain=['sclip_demo'], one=['own.py', '--tta'], two=['sclip_demo', '--tta']).items():
        result = run_main(*flags, '--out', name, *FEW)
        assert result.code == 0, result.err
        maps[name] = np.stack([np.asarray(Image.open(tmp_path / name / f'00000{n}.png')) for n in range(2)])
        words[name] = json.loads((tmp_path / 'work' / 'result.json').read_text())['metrics']
    np.testing.assert_array_equal(maps['one'], maps['plain'])
    assert words['one'] == words['plain'] != words['two'] and (maps['two'] != maps['plain']).mean() < 0.2


def test_show_dir_keeps_the_interval_of_the_config(run_main, tmp_path):
    assert run_main('sclip_demo', '--show-dir', 'maps', *FEW, 'default_hooks.visualization.interval=2').code == 0
    assert [path.stem for path in (tmp_path / 'maps').rglob('*.png')] == ['000001']


def test_the_vocabulary_is_checked_behind_tta(run_main):
    options = ('model.decode_head.vocabulary=voc20', 'model.decode_head.class_names=None')
    result = run_main('sclip_demo', '--tta', *FEW, *options)
    assert result.code == 1 and 'has 20 classes, but the dataset PaintedScenesDataset has 12' in result.last


def test_a_resumed_run_does_not_promise_the_files_of_the_one_before(run_main, tmp_path, monkeypatch):
    """Label maps that were not asked for before are made of the remaining image only, and the last lines say so."""
    maps = tmp_path / 'maps'

    def add(*args, real=Journal.add):
        real(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Journal, 'add', add)
        assert run_main('sclip_demo', *FEW).code == 130
    result = run_main('sclip_demo', *FEW, '--resume', '--out', maps)
    assert result.code == 0 and len(list(maps.iterdir())) == 1
    assert f'The label maps of the images that were not finished before are in {maps}' in result.out
