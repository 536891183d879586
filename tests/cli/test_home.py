"""`--out=~/maps`, which a shell does not expand."""

import pytest

from mmseg_sclip.cli import main

FEW = ['--device', 'cpu', '--cfg-options', 'test_dataloader.num_workers=0']


@pytest.mark.slow
@pytest.mark.parametrize(
    'argv, written',
    [
        (['test', 'clip_demo', '--work-dir=~/a', '--out=~/b', '--max-images', '1'], ['a/result.json', 'b/000000.png']),
        (['compare-methods', 'demo', '--methods', 'clip', '--out=~/a', '--max-images', '1'], ['a/methods.md']),
        (['ablate', '--table', '1', '--rows', 'clip', '--out=~/a', '--demo-count', '1'], ['a/tables.md']),
        (
            ['train', 'sclip_learned_demo', '--work-dir=~/a', '--cfg-options', 'train_cfg.max_iters=1'],
            ['a/projection.pth'],
        ),
    ],
)
def test_outputs_below_the_home_folder(tmp_path, monkeypatch, capsys, argv, written):
    (tmp_path / 'here').mkdir()
    monkeypatch.chdir(tmp_path / 'here')
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    assert main.main([*argv, *(FEW[:2] if argv[0] == 'train' else FEW)]) == 0
    assert all((tmp_path / 'home' / path).is_file() for path in written)
    assert not list((tmp_path / 'here').iterdir())
    if '--out=~/b' in argv:
        assert f'1 label maps are in {tmp_path}/home/b' in capsys.readouterr().out


def test_data_below_the_home_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    for argv in (['test', 'clip_demo', '--data-root=~/x'], ['compare', 'clip_demo', '--best', '1', '--data-root=~/x']):
        assert main.main([*argv, '--device', 'cpu']) == 1
        assert f'{tmp_path}/home/x' in capsys.readouterr().err.splitlines()[-1]
