import pytest

from mmseg_sclip import paths
from mmseg_sclip.errors import MissingFileError


def test_cache_root_follows_the_environment_else_the_platform(monkeypatch, tmp_path):
    monkeypatch.setenv('MMSEG_SCLIP_CACHE', str(tmp_path / 'with space'))
    assert paths.cache_root() == tmp_path / 'with space'
    assert not paths.cache_root().exists()
    monkeypatch.setenv('HOME', str(tmp_path))
    monkeypatch.setenv('MMSEG_SCLIP_CACHE', '~/cache')
    assert paths.cache_root() == tmp_path / 'cache' and paths.scenes_root() == tmp_path / 'cache' / 'scenes'
    monkeypatch.setattr(paths.platformdirs, 'user_cache_dir', lambda name, appauthor: f'{tmp_path}/{name}{appauthor}')
    monkeypatch.setenv('MMSEG_SCLIP_CACHE', '')
    assert paths.cache_root() == tmp_path / 'mmseg_sclipFalse'


@pytest.mark.parametrize(
    'name, place',
    [
        ('sclip_voc21', 'sclip_voc21'),
        ('clip_demo', 'clip/clip_demo'),
        ('_base_/datasets/voc21', '_base_/datasets/voc21'),
        # Where they were before.
        ('baselines/clip_demo.py', 'clip/clip_demo'),
        ('ablations/sclip_learned_demo', 'sclip_learned/sclip_learned_demo'),
        ('freecp_sclip/freecp_sclip_demo', 'freecp/freecp_sclip_demo'),
        ('maskclip_official/maskclip_official_voc20', 'maskclip/maskclip_official_voc20'),
        ('resclip_sclip/resclip_sclip_demo', 'resclip/resclip_sclip_demo'),
    ],
)
def test_config_path_finds(name, place):
    path = paths.config_path(name)
    assert path.is_file() and path == paths.configs_root() / f'{place}.py'


def test_list_configs_leaves_parts_out_and_round_trips():
    found = paths.list_configs()
    names = [paths.config_name(path) for path in found]
    assert {'sclip_voc21', 'sclip_demo', 'maskclip_demo', 'sclip_learned_demo'} <= set(names)
    assert names == sorted(set(names)) and 'sclip' not in names
    assert [paths.config_path(name) for name in names] == found


def test_the_wheels_configs_come_first(monkeypatch, tmp_path):
    monkeypatch.setattr(paths, 'PACKAGE', tmp_path / 'mmseg_sclip')
    (tmp_path / 'configs').mkdir()  # someone else's
    with pytest.raises(MissingFileError, match='No configs of mmseg_sclip in'):
        paths.configs_root()
    (tmp_path / 'configs' / '_base_').mkdir()
    assert paths.configs_root() == tmp_path / 'configs'
    (tmp_path / 'mmseg_sclip' / '.mim' / 'configs' / '_base_').mkdir(parents=True)
    assert paths.configs_root() == tmp_path / 'mmseg_sclip' / '.mim' / 'configs'
