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


@pytest.mark.parametrize('name', ['sclip_voc21', 'sclip_voc21.py', 'baselines/clip_demo', '_base_/datasets/voc21'])
def test_config_path_finds(name):
    path = paths.config_path(name)
    assert path.is_file() and path.with_suffix('').as_posix().endswith(name.removesuffix('.py'))


def test_config_path_names_the_nearest():
    with pytest.raises(FileNotFoundError, match=r"'sclip_voc12'\. Did you mean .*sclip_voc2[01].*mmseg-sclip configs"):
        paths.config_path('sclip_voc12')
    with pytest.raises(FileNotFoundError, match=r"'qqq'\. `mmseg-sclip configs` lists"):
        paths.config_path('qqq')


@pytest.mark.parametrize('name', ['../setup', str(Path(__file__).resolve())])
def test_config_path_stays_inside(name):
    with pytest.raises(FileNotFoundError, match='No shipped config'):
        paths.config_path(name)


def test_list_configs_leaves_parts_out_and_round_trips():
    found = paths.list_configs()
    names = [paths.config_name(path) for path in found]
    assert {'sclip_voc21', 'sclip_demo', 'baselines/maskclip_demo'} <= set(names)
    assert names == sorted(names) and not any('_base_' in name for name in names)
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
