import importlib
import inspect
import os
import subprocess
import sys
import warnings
from configparser import ConfigParser
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from mmseg_sclip import compat, mmcv_ops

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


def run_python(code, *folders, **kwargs):
    path = os.pathsep.join(map(str, [*folders, ROOT]))
    return subprocess.run(
        [sys.executable, '-c', code], env={**os.environ, 'PYTHONPATH': path}, capture_output=True, text=True, **kwargs
    )


@pytest.mark.parametrize(
    'installed',
    [
        GOOD,
        LITE,
        ONEDL,
        {**ONEDL, 'onedl-mmcv': None, 'mmcv': compat.UNKNOWN},
        {**GOOD, 'mmcv': '2.0.0rc4'},
        {**GOOD, 'mmcv': compat.UNKNOWN},
        {**GOOD, 'torch': '2.9.0.dev20251001+cpu'},
        {**GOOD, 'mmengine': 'built by hand'},
    ],
)
def test_versions_that_fit(installed):
    assert compat.check_versions(installed) == []


@pytest.mark.parametrize(
    'installed, package, words, command',
    [
        ({**GOOD, 'torch': None}, 'torch', 'torch is not installed', 'pip install "torch>=2.1"'),
        ({**GOOD, 'torch': '1.13.1'}, 'torch', 'torch 1.13.1 is installed', 'pip install "torch>=2.1"'),
        ({**GOOD, 'torchvision': None}, 'torchvision', 'torchvision is not', 'pip install "torchvision"'),
        ({**GOOD, 'mmengine': '1.0.0'}, 'mmengine', 'mmsegmentation needs', 'pip install "mmengine>=0.10,<1.0"'),
        ({**GOOD, 'mmsegmentation': '0.30.0'}, 'mmsegmentation', '0.30.0', 'pip install "mmsegmentation>=1.2,<2"'),
        ({**GOOD, 'open_clip_torch': '2.32.0'}, 'open_clip_torch', '2.32.0', 'pip install "open_clip_torch>=3,<4"'),
        ({**GOOD, 'open_clip_torch': '4.0.0'}, 'open_clip_torch', '4.0.0', 'pip install "open_clip_torch>=3,<4"'),
        ({**GOOD, 'mmcv': '2.2.0'}, 'mmcv', '>=2.0.0rc4,<2.2.0', f'pip uninstall -y mmcv && {compat.INSTALL_LITE}'),
        ({**GOOD, 'mmcv': '1.7.2'}, 'mmcv', 'mmcv 1.7.2', f'pip uninstall -y mmcv && {compat.INSTALL_LITE}'),
        ({**LITE, 'mmcv-lite': '2.2.0'}, 'mmcv-lite', 'mmcv-lite 2.2.0', compat.INSTALL_LITE),
        ({**GOOD, 'mmcv': None}, 'mmcv', 'neither mmcv nor mmcv-lite is installed', compat.INSTALL_LITE),
        (COMMON, 'mmsegmentation', 'mmseg_sclip[onedl]', INSTALL_ONEDL),
        ({**ONEDL, 'onedl-mmcv': '3.0'}, 'onedl-mmcv', 'onedl-mmcv 3.0', 'pip install "onedl-mmcv>=2.3.6,<3"'),
        (
            {**ONEDL, 'onedl-mmcv': None},
            'onedl-mmcv',
            'onedl-mmcv is not installed; onedl-mmsegmentation needs',
            'pip install "onedl-mmcv>=2.3.6,<3"',
        ),
        (
            {**LITE, 'onedl-mmcv': '2.3.6'},
            'onedl-mmcv',
            'mmengine 0.10.4, mmsegmentation 1.2.2, mmcv-lite 2.1.0, onedl-mmcv 2.3.6',
            f'pip uninstall -y mmengine mmsegmentation mmcv-lite onedl-mmcv && {INSTALL_ONEDL}',
        ),
        (
            {**ONEDL, 'mmengine': '0.10.7'},
            'onedl-mmengine',
            'two families',
            f'pip uninstall -y mmengine onedl-mmengine onedl-mmcv onedl-mmsegmentation && {INSTALL_ONEDL}',
        ),
    ],
)
def test_versions_that_do_not_fit(installed, package, words, command):
    (problem,) = compat.check_versions(installed)
    assert problem.package == package and problem.fatal
    assert words in problem.text
    assert problem.command == command


def test_all_problems_are_told_at_once():
    packages = [problem.package for problem in compat.check_versions({})]
    assert packages == ['torch', 'torchvision', 'open_clip_torch', 'mmsegmentation']
    packages = [problem.package for problem in compat.check_versions({'mmcv-lite': '2.2.0'})]
    assert packages == ['torch', 'torchvision', 'open_clip_torch', 'mmengine', 'mmsegmentation', 'mmcv-lite']


def test_ranges_are_those_of_setup_cfg():
    config = ConfigParser()
    config.read(ROOT / 'setup.cfg')
    extras = config['options.extras_require']

    def declared(lines):
        return {r.name: r.specifier for r in map(Requirement, filter(None, lines.split('\n')))}

    def required(requirements):
        return {package: compat.SpecifierSet(allowed) for package, _, allowed, _ in requirements if package != 'mmcv'}

    always = declared(config['options']['install_requires'])
    assert always.items() >= required(compat.COMMON).items()
    assert not any('mm' in package for package in always)  # pip would install one family over the other
    assert declared(extras['lite']) == required(compat.OPENMMLAB)
    assert declared(extras['onedl']) == required(compat.ONEDL)


def fake_metadata(monkeypatch, versions):
    def version(package):
        if versions.get(package) is None:
            raise PackageNotFoundError(package)
        return versions[package]

    monkeypatch.setattr(compat.importlib.metadata, 'version', version)


def test_prepare_says_everything_in_one_message(monkeypatch):
    fake_metadata(monkeypatch, {**GOOD, 'mmcv': '2.2.0', 'open_clip_torch': '2.20.0'})
    with pytest.raises(ImportError) as caught:
        compat.prepare.__wrapped__()
    message = str(caught.value)
    assert '2 packages do not fit' in message
    for part in ('mmcv 2.2.0', compat.MMCV_ALLOWED, compat.INSTALL_LITE, 'open_clip_torch 2.20.0', '>=3,<4', 'doctor'):
        assert part in message


@pytest.mark.parametrize('ops', [None, ImportError('undefined symbol: _ZN3c10')])
def test_ops_that_do_not_load_are_a_problem(monkeypatch, ops):
    def import_module(name):
        if name == 'mmcv._ext' and ops:
            raise ops

    monkeypatch.setattr(mmcv_ops, 'are_compiled', lambda: True)
    monkeypatch.setattr(compat.importlib, 'import_module', import_module)
    problems = compat.look().problems
    assert [problem.package for problem in problems] == ['mmcv'] * bool(ops)
    assert not ops or ('undefined symbol' in problems[0].text and 'mmcv-lite' in problems[0].command)


def test_prepare_warns_of_mmcv_over_mmcv_lite(monkeypatch):
    fake_metadata(monkeypatch, {**GOOD, 'mmcv-lite': '2.1.0'})
    with pytest.warns(UserWarning, match=r'(?s)over each other.*pip uninstall -y mmcv mmcv-lite'):
        compat.prepare.__wrapped__()


def test_a_module_without_metadata_is_not_missing(monkeypatch):
    fake_metadata(monkeypatch, {})
    versions = compat.installed_versions()
    assert versions['torch'] == versions['mmcv'] == compat.UNKNOWN
    fake_metadata(monkeypatch, {'mmcv-lite': '2.1.0'})
    assert compat.installed_versions()['mmcv'] is None


def test_torchvision_for_another_torch_is_named(monkeypatch):
    fake_metadata(monkeypatch, GOOD)

    def import_module(name):
        if name == 'torchvision':
            raise RuntimeError('operator torchvision::nms does not exist')

    monkeypatch.setattr(compat.importlib, 'import_module', import_module)
    (problem,) = compat.check_imports()
    assert 'torchvision 0.19.1+cu121 does not fit torch 2.4.1+cu121' in problem.text
    assert 'operator torchvision::nms does not exist' in problem.text
    assert 'pip install' in problem.command and problem.fatal


def test_a_missing_package_of_open_clip_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'ftfy', None)
    for name in [name for name in sys.modules if name.partition('.')[0] == 'open_clip']:
        monkeypatch.delitem(sys.modules, name)
    (problem,) = compat.check_imports()
    assert 'ftfy' in problem.text and problem.command.startswith('pip install "open_clip_torch')


def test_placeholder_resolves_names_and_refuses_use():
    ops = mmcv_ops._placeholder()
    assert ops.point_sample is ops.point_sample
    assert not isinstance(3, ops.DeformConv2d)

    class Mine(ops.DeformConv2d):
        pass

    for use in (ops.point_sample, Mine):
        with pytest.raises(RuntimeError, match=r'mmcv\.ops\.\w+ needs the compiled ops'):
            use(1, key=2)


def test_placeholder_has_no_dunder_names(monkeypatch):
    ops = mmcv_ops._placeholder()
    for name in ('__file__', '__path__', '__all__', '__wrapped__'):
        assert not hasattr(ops, name)
    monkeypatch.setitem(sys.modules, 'mmcv.ops', ops)
    assert inspect.getmodule(lambda: 0) is sys.modules[__name__]  # asks every module
    assert importlib.import_module('mmcv.ops') is ops


@pytest.mark.slow
def test_mmseg_imports_after_mmseg_sclip():
    code = (
        'import mmseg_sclip, sys, importlib.util\n'
        'from mmseg_sclip import mmcv_ops\n'
        'from mmseg.apis import init_model\n'
        'from mmengine.utils.dl_utils import mmcv_full_available\n'
        'from mmseg.utils import collect_env\n'
        'import mmcv.utils\n'
        'assert mmcv_full_available() == mmcv_ops.are_compiled()\n'
        'assert ("mmcv._ext" in sys.modules) == mmcv_ops.are_compiled()\n'
        'assert mmcv.utils.collect_env()["MMCV"]\n'
        'print("fine")'
    )
    result = run_python(code)
    assert result.stdout.endswith('fine\n'), result.stderr
    assert 'MultiScaleDeformableAttention' not in result.stderr


def test_the_placeholder_is_made_only_where_it_is_needed(monkeypatch):
    monkeypatch.setattr(mmcv_ops, 'are_compiled', lambda: False)
    for needed in (False, True):
        monkeypatch.delitem(sys.modules, 'mmcv.ops', raising=False)
        mmcv_ops.stand_in(needed)
        assert ('mmcv.ops' in sys.modules) == needed


@pytest.mark.slow
def test_full_mmcv_is_left_alone(tmp_path):
    (tmp_path / 'mmcv').mkdir()
    (tmp_path / 'mmcv' / '__init__.py').touch()
    (tmp_path / 'mmcv' / '_ext.py').touch()
    load = f'import importlib.util as u, sys; s = u.spec_from_file_location("ops", {mmcv_ops.__file__!r}); '
    load += 'o = u.module_from_spec(s); s.loader.exec_module(o); o.stand_in(); '
    load += 'print(o.are_compiled(), [name for name in sys.modules if name.startswith("mmcv")])'
    result = run_python(load, tmp_path)
    assert result.stdout == 'True []\n', result.stderr


@pytest.mark.slow
def test_import_ends_with_the_message(tmp_path):
    (tmp_path / 'open_clip_torch-2.30.0.dist-info').mkdir()
    (tmp_path / 'open_clip_torch-2.30.0.dist-info' / 'METADATA').write_text('Name: open_clip_torch\nVersion: 2.30.0\n')
    result = run_python('import mmseg_sclip', tmp_path)
    assert result.returncode == 1
    assert 'UnfitEnvironment: mmseg_sclip cannot start, because one package does not fit' in result.stderr
    assert 'pip install "open_clip_torch>=3,<4"' in result.stderr


def test_a_good_environment_gives_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        compat.prepare.__wrapped__()
