import re
from pathlib import Path

import pytest

from mmseg_sclip import paths


def test_cache_root_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv('MMSEG_SCLIP_CACHE', str(tmp_path / 'with space'))
    assert paths.cache_root() == tmp_path / 'with space'
    assert not paths.cache_root().exists()
    monkeypatch.setenv('HOME', str(tmp_path))
    monkeypatch.setenv('MMSEG_SCLIP_CACHE', '~/cache')
    assert paths.cache_root() == tmp_path / 'cache'


@pytest.mark.parametrize('value', [None, ''])
def test_cache_root_is_the_platforms_by_default(monkeypatch, tmp_path, value):
    monkeypatch.delenv('MMSEG_SCLIP_CACHE', raising=False)
    if value is not None:
        monkeypatch.setenv('MMSEG_SCLIP_CACHE', value)
    monkeypatch.setattr(paths.platformdirs, 'user_cache_dir', lambda name, appauthor: f'{tmp_path}/{name}')
    assert paths.cache_root() == tmp_path / 'mmseg_sclip'


@pytest.mark.parametrize(
    'name, place',
    [
        ('sclip_voc21', 'sclip_voc21'),
        ('sclip_voc21.py', 'sclip_voc21'),
        ('clip_demo', 'clip/clip_demo'),
        ('clip/clip_demo.py', 'clip/clip_demo'),
        ('maskclip_official_ade20k', 'maskclip/maskclip_official_ade20k'),
        ('_base_/datasets/voc21', '_base_/datasets/voc21'),
        ('baselines/clip_demo', 'clip/clip_demo'),  # where they were before
        ('ablations/sclip_learned_demo', 'sclip_learned/sclip_learned_demo'),
    ],
)
def test_config_path_finds(name, place):
    path = paths.config_path(name)
    assert path.is_file() and path == paths.configs_root() / f'{place}.py'


def test_config_path_names_the_nearest():
    with pytest.raises(FileNotFoundError, match=r"'sclip_voc12'\. Did you mean .*sclip_voc2[01].*mmseg-sclip configs"):
        paths.config_path('sclip_voc12')
    with pytest.raises(FileNotFoundError, match=r"'qqq'\. `mmseg-sclip configs` lists"):
        paths.config_path('qqq')


@pytest.mark.parametrize(
    'name, command',
    [
        ('baselines/clip_pamr_voc21', '--table 1 --rows clip+pamr --datasets voc21'),
        ('ablations/sclip_q_coco_stuff164k', '--table 2 --rows q --datasets coco_stuff164k'),
        ('sclip_random_ensemble_demo', '--table 2 --rows random:4 --datasets demo'),
        ('ablations/sclip_local_demo.py', '--table 3 --rows local --datasets demo'),
        ('ablations/sclip_mode5_voc21', '--table 4 --rows mode5 --datasets voc21'),
    ],
)
def test_configs_that_became_rows_name_their_command(name, command):
    with pytest.raises(FileNotFoundError, match=re.escape(f'`mmseg-sclip ablate {command}`')):
        paths.config_path(name)


@pytest.mark.parametrize('name', ['../setup', str(Path(__file__).resolve()), 'mine/sclip_demo', '_base_/sclip_demo'])
def test_config_path_stays_inside(name):
    with pytest.raises(FileNotFoundError, match='No shipped config'):
        paths.config_path(name)


def test_list_configs_leaves_parts_out_and_round_trips():
    found = paths.list_configs()
    names = [paths.config_name(path) for path in found]
    assert {'sclip_voc21', 'sclip_demo', 'maskclip_demo', 'sclip_learned_demo'} <= set(names)
    assert names == sorted(set(names)) and 'sclip' not in names
    assert [paths.config_path(name) for name in names] == found


def test_the_wheels_configs_come_first(monkeypatch, tmp_path):
    monkeypatch.setattr(paths, 'PACKAGE', tmp_path / 'mmseg_sclip')
    (tmp_path / 'configs').mkdir()  # someone else's
    with pytest.raises(FileNotFoundError, match='No configs of mmseg_sclip in'):
        paths.configs_root()
    (tmp_path / 'configs' / '_base_').mkdir()
    assert paths.configs_root() == tmp_path / 'configs'
    (tmp_path / 'mmseg_sclip' / '.mim' / 'configs' / '_base_').mkdir(parents=True)
    assert paths.configs_root() == tmp_path / 'mmseg_sclip' / '.mim' / 'configs'
