"""The flags of tools/test.py; what it writes is tested in tests/end_to_end."""

import json

import numpy as np
import pytest
from PIL import Image

from mmseg_sclip.engine.journal import Journal
from mmseg_sclip.paths import config_path

SLOW = pytest.mark.slow
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


@pytest.mark.parametrize(
    'line, written',
    [
        ('test clip_demo --work-dir=~/a --out=~/b --max-images 1', ['a/result.json', 'b/000000.png']),
        pytest.param('compare-methods demo --methods clip --out=~/a --max-images 1', ['a/methods.md'], marks=SLOW),
        pytest.param('ablate --table 1 --rows clip --out=~/a --demo-count 1', ['a/tables.md'], marks=SLOW),
        pytest.param('train sclip_learned_demo --work-dir=~/a', ['a/projection.pth'], marks=SLOW),
    ],
)
def test_outputs_below_the_home_folder(run, tmp_path, monkeypatch, line, written):
    """`--out=~/maps`, which a shell does not expand."""
    (tmp_path / 'here').mkdir()
    monkeypatch.chdir(tmp_path / 'here')
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    option = 'train_cfg.max_iters=1' if line.startswith('train') else 'test_dataloader.num_workers=0'
    result = run(*line.split(), '--device', 'cpu', '--cfg-options', option)
    assert result.code == 0 and all((tmp_path / 'home' / path).is_file() for path in written)
    assert not list((tmp_path / 'here').iterdir())
    assert '--out=~/b' not in line or f'1 label maps are in {tmp_path}/home/b' in result.out


@pytest.mark.parametrize('line', ['test clip_demo', 'compare clip_demo --best 1'])
def test_data_below_the_home_folder(run, tmp_path, monkeypatch, line):
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    result = run(*line.split(), '--data-root=~/x', '--device', 'cpu')
    assert result.code == 1 and f'{tmp_path}/home/x' in result.last
