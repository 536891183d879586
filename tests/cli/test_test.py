"""The flags of tools/test.py; what it writes is tested in tests/end_to_end."""

import pytest

from mmseg_sclip.engine.journal import Journal

SLOW = pytest.mark.slow
FEW = ('--cfg-options', 'test_dataloader.num_workers=0', 'test_dataloader.dataset.count=2')


def test_show_dir_keeps_the_interval_of_the_config(run_main, tmp_path):
    assert run_main('sclip_demo', '--show-dir', 'maps', *FEW, 'default_hooks.visualization.interval=2').code == 0
    assert [path.stem for path in (tmp_path / 'maps').rglob('*.png')] == ['000001']


def test_the_vocabulary_is_checked_with_tta_too(run_main):
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
    options = ['train_cfg.max_iters=1'] if line.startswith('train') else FEW[1:]
    result = run(*line.split(), '--device', 'cpu', '--cfg-options', *options)
    assert result.code == 0 and all((tmp_path / 'home' / path).is_file() for path in written)
    assert not list((tmp_path / 'here').iterdir())
    assert '--out=~/b' not in line or f'1 label maps are in {tmp_path}/home/b' in result.out


@pytest.mark.parametrize('line', ['test clip_demo', 'compare clip_demo --best 1'])
def test_data_below_the_home_folder(run, tmp_path, monkeypatch, line):
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    result = run(*line.split(), '--data-root=~/x', '--device', 'cpu')
    assert result.code == 1 and f'{tmp_path}/home/x' in result.last
