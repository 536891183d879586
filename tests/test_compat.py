import importlib
import importlib.metadata
import inspect
import sys
from configparser import ConfigParser
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from mmseg_sclip import compat
from mmseg_sclip.compat import imports, late, mmcv_ops, report, versions

ROOT = Path(__file__).resolve().parents[1]
GOOD = {
    'torch': '2.4.1+cu121',
    'torchvision': '0.19.1+cu121',
    'mmengine': '0.10.4',
    'mmsegmentation': '1.2.2',
    'open_clip_torch': '3.0.0',
    'mmcv': '2.1.0',
    'mmcv-lite': None,
}
LITE = {**GOOD, 'mmcv': None, 'mmcv-lite': '2.1.0'}
COMMON = {name: GOOD[name] for name in ('torch', 'torchvision', 'open_clip_torch')}
ONEDL = {**COMMON, 'onedl-mmengine': '0.10.12', 'onedl-mmcv': '2.3.6', 'onedl-mmsegmentation': '1.4.2'}
INSTALL_ONEDL = 'pip install "onedl-mmengine>=0.10.12,<1.0" "onedl-mmcv>=2.3.6,<3" "onedl-mmsegmentation>=1.4.2,<2"'


@pytest.mark.parametrize(
    'installed',
    [GOOD, LITE, ONEDL, {**ONEDL, 'onedl-mmcv': None, 'mmcv': versions.UNKNOWN}]
    + [{**GOOD, **more} for more in (dict(mmcv='2.0.0rc4'), dict(torch='2.9.0.dev20251001+cpu'), dict(mmengine='own'))],
)
def test_versions_that_fit(installed):
    assert versions.check_versions(installed) == []


REMOVE = 'pip uninstall -y'


@pytest.mark.parametrize(
    'installed, package, words, command',
    [
        ({**GOOD, 'torch': None}, 'torch', 'torch is not installed', 'pip install "torch>=2.1"'),
        ({**GOOD, 'mmengine': '1.0.0'}, 'mmengine', 'mmsegmentation needs', 'pip install "mmengine>=0.10,<1.0"'),
        ({**GOOD, 'mmsegmentation': '0.30.0'}, 'mmsegmentation', '0.30.0', 'pip install "mmsegmentation>=1.2,<2"'),
        ({**GOOD, 'open_clip_torch': '4.0.0'}, 'open_clip_torch', '4.0.0', 'pip install "open_clip_torch>=3,<4"'),
        ({**GOOD, 'mmcv': '2.2.0'}, 'mmcv', '>=2.0.0rc4,<2.2.0', f'{REMOVE} mmcv && {versions.INSTALL_LITE}'),
        ({**LITE, 'mmcv-lite': '2.2.0'}, 'mmcv-lite', 'mmcv-lite 2.2.0', versions.INSTALL_LITE),
        ({**GOOD, 'mmcv': None}, 'mmcv', 'neither mmcv nor mmcv-lite is installed', versions.INSTALL_LITE),
        (COMMON, 'mmsegmentation', 'mmseg_sclip[onedl]', INSTALL_ONEDL),
        ({**ONEDL, 'onedl-mmcv': None}, 'onedl-mmcv', 'mmsegmentation needs', 'pip install "onedl-mmcv>=2.3.6,<3"'),
        (
            {**ONEDL, 'mmengine': '0.10.7'},
            'onedl-mmengine',
            'two families',
            f'{REMOVE} mmengine onedl-mmengine onedl-mmcv onedl-mmsegmentation && {INSTALL_ONEDL}',
        ),
    ],
)
def test_versions_that_do_not_fit(installed, package, words, command):
    (problem,) = versions.check_versions(installed)
    assert problem.package == package and problem.fatal
    assert words in problem.text and problem.command == command


def test_all_problems_are_told_at_once():
    packages = [problem.package for problem in versions.check_versions({'mmcv-lite': '2.2.0'})]
    assert packages == ['torch', 'torchvision', 'open_clip_torch', 'mmengine', 'mmsegmentation', 'mmcv-lite']


def test_ranges_are_those_of_setup_cfg():
    config = ConfigParser()
    config.read(ROOT / 'setup.cfg')
    extras = config['options.extras_require']

    def declared(lines):
        return {r.name: r.specifier for r in map(Requirement, filter(None, lines.split('\n')))}

    def required(requirements):
        return {package: versions.SpecifierSet(allowed) for package, _, allowed, _ in requirements if package != 'mmcv'}

    always = declared(config['options']['install_requires'])
    assert always.items() >= required(versions.COMMON).items()
    assert not any('mm' in package for package in always)  # pip would install one family over the other
    assert declared(extras['lite']) == required(versions.OPENMMLAB)
    assert declared(extras['onedl']) == required(versions.ONEDL)


def fake_metadata(monkeypatch, versions):
    def version(package):
        if versions.get(package) is None:
            raise PackageNotFoundError(package)
        return versions[package]

    monkeypatch.setattr(importlib.metadata, 'version', version)


def test_prepare_says_everything_in_one_message(monkeypatch):
    fake_metadata(monkeypatch, {**GOOD, 'mmcv': '2.2.0', 'open_clip_torch': '2.20.0'})
    with pytest.raises(ImportError, match=r'(?s)2 packages do not fit.*open_clip_torch 2.20.0.*mmcv 2.2.0.*doctor'):
        compat.prepare.__wrapped__()


@pytest.mark.parametrize('broken', [False, True])
def test_ops_that_do_not_load_are_a_problem(monkeypatch, broken):
    def import_module(name):
        if name == 'mmcv._ext' and broken:
            raise ImportError('undefined symbol: _ZN3c10')

    monkeypatch.setattr(mmcv_ops, 'are_compiled', lambda: True)
    monkeypatch.setattr(importlib, 'import_module', import_module)
    assert ['undefined symbol' in problem.text for problem in report.look().problems] == [True] * broken


def test_prepare_warns_of_mmcv_over_mmcv_lite(monkeypatch):
    fake_metadata(monkeypatch, {**GOOD, 'mmcv-lite': '2.1.0'})
    with pytest.warns(UserWarning, match=r'(?s)over each other.*pip uninstall -y mmcv mmcv-lite'):
        compat.prepare.__wrapped__()


def test_a_module_without_metadata_is_not_missing(monkeypatch):
    fake_metadata(monkeypatch, {})
    found = versions.installed_versions()
    assert found['torch'] == found['mmcv'] == versions.UNKNOWN
    fake_metadata(monkeypatch, {'mmcv-lite': '2.1.0'})
    assert versions.installed_versions()['mmcv'] is None


def test_a_missing_package_of_open_clip_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'ftfy', None)
    for name in [name for name in sys.modules if name.partition('.')[0] == 'open_clip']:
        monkeypatch.delitem(sys.modules, name)
    (problem,) = imports.check_imports()
    assert 'ftfy' in problem.text and problem.command.startswith('pip install "open_clip_torch')


def test_placeholder_resolves_names_and_refuses_use(monkeypatch):
    ops = mmcv_ops._placeholder()
    assert ops.point_sample is ops.point_sample
    assert not isinstance(3, ops.DeformConv2d)

    class Mine(ops.DeformConv2d):
        pass

    for use in (ops.point_sample, Mine):
        with pytest.raises(RuntimeError, match=r'mmcv\.ops\.\w+ needs the compiled ops'):
            use(1, key=2)
    assert not any(hasattr(ops, name) for name in ('__file__', '__path__', '__all__', '__wrapped__'))
    monkeypatch.setitem(sys.modules, 'mmcv.ops', ops)
    assert inspect.getmodule(lambda: 0) is sys.modules[__name__]  # asks every module


def test_the_placeholder_is_made_only_where_it_is_needed(tmp_path, monkeypatch):
    """Full mmcv is left alone."""
    with monkeypatch.context() as patch:
        patch.setattr(mmcv_ops, 'are_compiled', lambda: False)
        for needed in (False, True):
            patch.delitem(sys.modules, 'mmcv.ops', raising=False)
            mmcv_ops.stand_in(needed)
            assert ('mmcv.ops' in sys.modules) == needed
    (tmp_path / 'mmcv').mkdir()
    for name in ('__init__.py', '_ext.py'):
        (tmp_path / 'mmcv' / name).touch()
    for name in [name for name in sys.modules if name.partition('.')[0] == 'mmcv']:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    mmcv_ops.stand_in()
    assert mmcv_ops.are_compiled() and not [name for name in sys.modules if name.startswith('mmcv')]


def test_torchvision_for_another_torch_is_named_early_and_late(monkeypatch):
    fake_metadata(monkeypatch, GOOD)

    def import_module(name):
        if name in ('torchvision', 'open_clip'):
            raise RuntimeError('operator torchvision::nms does not exist')

    monkeypatch.setattr(importlib, 'import_module', import_module)
    problem = imports.check_imports()[0]
    assert 'torchvision 0.19.1+cu121 does not fit torch 2.4.1+cu121' in problem.text
    assert 'operator torchvision::nms does not exist' in problem.text
    assert 'pip install' in problem.command and problem.fatal
    with pytest.raises(compat.UnfitEnvironment, match=r'(?s)torchvision::nms does not exist.*pip install'):
        _ = late.open_clip.CLIP
    monkeypatch.setattr(late, 'check_imports', lambda: [])
    with pytest.raises(RuntimeError, match='nms'):
        _ = late.open_clip.CLIP
