import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ('pyproject.toml', 'setup.cfg', 'setup.py', 'MANIFEST.in', 'LICENSE', 'README.md', 'CHANGELOG.md')
SOURCES += ('model-index.yml', 'mmseg_sclip_cli.py', 'mmseg_sclip', 'configs', 'tools')
BUILD_SDIST = 'import sys; from setuptools import build_meta; print(build_meta.build_sdist(sys.argv[1]))'


def run(*command, cwd, **env):
    result = subprocess.run(command, cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def build_wheel(source, target):
    command = ('pip', 'wheel', '--no-deps', '--no-build-isolation', '--no-index', '--wheel-dir', str(target), '.')
    run(sys.executable, '-m', *command, cwd=source, PIP_DISABLE_PIP_VERSION_CHECK='1')
    return next(Path(target).glob('*.whl'))


MODELS = yaml.safe_load((ROOT / 'configs' / 'metafile.yml').read_text())['Models']


@pytest.mark.parametrize('model', MODELS, ids=lambda model: model['Name'])
def test_mim_can_read_the_metafile(model):
    """`mim search` fails on empty lists, and `mim download` wants a config and weights."""
    assert (ROOT / model['Config']).is_file() and Path(model['Config']).stem == model['Name']
    assert model['Weights'].startswith('https://')
    assert not [value for value in (model, *model['Results']) if [] in value.values()]


@pytest.fixture(scope='module')
def wheels(tmp_path_factory):
    """The wheel built from a copy of the checkout, and the one built from its sdist."""
    folder = tmp_path_factory.mktemp('packaging')
    checkout = folder / 'checkout'
    checkout.mkdir()
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, checkout / name, ignore=shutil.ignore_patterns('__pycache__'))
        elif source.exists():
            shutil.copy2(source, checkout)
    run(sys.executable, '-c', BUILD_SDIST, str(folder), cwd=checkout)
    shutil.unpack_archive(next(folder.glob('*.tar.gz')), folder / 'sdist')
    unpacked = next((folder / 'sdist').iterdir())
    return build_wheel(checkout, folder / 'direct'), build_wheel(unpacked, folder / 'through_sdist')


def contents(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if not name.endswith('/')}


def shipped(folder, *patterns):
    return {path.relative_to(ROOT).as_posix() for pattern in patterns for path in (ROOT / folder).rglob(pattern)}


@pytest.mark.slow
def test_the_wheels_hold_configs_tools_and_data_and_nothing_else(wheels):
    found = contents(wheels[0])
    assert found == contents(wheels[1])
    developers = shipped('tools', 'benchmark.py', 'soak.py', 'train_demo_clip.py')
    developers |= shipped('tools/bench', '*.py') | shipped('tools/tiny_clip', '*.py')
    wanted = shipped('configs', '*.py', '*.yml') | shipped('tools', '*.py', '*.sh') - developers | {'model-index.yml'}
    assert {name for name in found if '.mim/' in name} == {f'mmseg_sclip/.mim/{name}' for name in wanted}
    assert shipped('mmseg_sclip', '*.py', '*.txt', '*.json', '*.safetensors') | {'mmseg_sclip_cli.py'} <= found
    assert any(name.endswith('licenses/LICENSE') for name in found)
    tops = {name.split('/')[0] for name in found}
    assert tops == {'mmseg_sclip', 'mmseg_sclip_cli.py', next(top for top in tops if top.endswith('.dist-info'))}
    assert not [name for name in found if '__pycache__' in name or name.endswith('.pyc')]


@pytest.mark.slow
def test_an_unpacked_wheel_works_from_any_folder(wheels, tmp_path):
    site, elsewhere = tmp_path / 'site', tmp_path / 'elsewhere'
    elsewhere.mkdir()
    with zipfile.ZipFile(wheels[0]) as archive:
        archive.extractall(site)
    env = {'PYTHONPATH': str(site)}
    listed = run(sys.executable, '-m', 'mmseg_sclip', 'configs', cwd=elsewhere, **env)
    configs = site.resolve() / 'mmseg_sclip' / '.mim' / 'configs'
    assert f'sclip_voc21 {configs / "sclip_voc21.py"}' in [' '.join(line.split()) for line in listed.splitlines()]
    code = 'import mmseg_sclip, mmseg_sclip.paths as p; print(mmseg_sclip.__file__, *p.list_configs(), sep="\\n")'
    module, *paths = run(sys.executable, '-c', code, cwd=elsewhere, **env).splitlines()
    assert Path(module) == site / 'mmseg_sclip' / '__init__.py'
    assert configs / 'clip' / 'clip_demo.py' in map(Path, paths)
    script = site / 'mmseg_sclip' / '.mim' / 'tools' / 'get_flops.py'  # as `mim run mmseg_sclip get_flops` does
    assert 'GMAC' in run(sys.executable, str(script), 'sclip_demo', cwd=elsewhere, **env)
