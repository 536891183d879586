"""Commands answer before torch is imported, and importing the package leaves out what it does not need."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.config import DictAction

from mmseg_sclip.apis.words import AUTO, NONE
from mmseg_sclip.cli import flags, main
from mmseg_sclip.cli.arguments import attention, compare, segment
from mmseg_sclip.cli.cfg_options import read_value
from mmseg_sclip.engine import evaluation
from mmseg_sclip.visual.attention_names import METHODS
from mmseg_sclip.visual.bound_attention import OWN
from mmseg_sclip.visual.comparison import CRITERIA

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ('torch', 'mmengine', 'mmcv', 'mmseg', 'numpy', 'PIL', 'matplotlib', 'rich')
ANSWERED = [[name, '--help'] for name in main.COMMANDS] + [
    ['--version'],
    ['configs'],
    ['tset'],
    ['test'],
    ['test', 'sclip_voc21', '--cfg-options', 'a=[1,(2,3)]', '--no-such-flag'],
    ['segment', 'a.jpg'],
    ['attention', 'a.jpg', '--points', '3'],
    ['check', 'sclip_voc21', '--workers', '-1'],
    ['weights', 'sclip_voc21', '--weights', 'clip'],
    ['get-flops', 'sclip_voc21', '--shape', '0'],
    ['train', 'sclip_learned_demo', '--seed', '-1'],
    ['compare', 'sclip_voc21', '--worst', '0'],
    ['compare-methods', 'voc21', '--methods', 'clip', '--seeds', '1'],
    ['ablate', '--table', '1', '--rows', 'slcip'],
]
ASK = """
import json, sys
from mmseg_sclip_cli import main
seen = {}
for argv in json.loads(sys.argv[1]):
    code = main(argv)
    seen[' '.join(argv)] = [code, [name for name in json.loads(sys.argv[2]) if name in sys.modules]]
print('\\n' + json.dumps(seen))
"""


def python(*words, path=()):
    env = {**os.environ, 'PYTHONPATH': os.pathsep.join(map(str, [*path, ROOT])), 'OMP_NUM_THREADS': '1'}
    return subprocess.run([sys.executable, *map(str, words)], env=env, capture_output=True, text=True, timeout=300)


def test_help_and_wrong_arguments_need_no_torch():
    """Each command in one process; modules are compared, not seconds."""
    done = python('-c', ASK, json.dumps(ANSWERED), json.dumps(HEAVY))
    seen = json.loads(done.stdout.splitlines()[-1])
    right = {' '.join(argv) for argv in ANSWERED if '--help' in argv or argv[0] in ('--version', 'configs')}
    assert seen == {' '.join(argv): [int(' '.join(argv) not in right), []] for argv in ANSWERED}
    assert 'Traceback' not in done.stderr


@pytest.mark.parametrize('door', [['tools/test.py'], ['mmseg_sclip_cli.py', 'test'], ['-m', 'mmseg_sclip', 'test']])
def test_every_door_is_light(door):
    done = python('-v', *(ROOT / word if word.endswith('.py') else word for word in door), '--help')
    imported = set(re.findall(r"^import '([\w.]+)'", done.stderr, re.M))
    assert done.stdout.startswith('usage: mmseg-sclip test') and 'mmseg_sclip.cli.arguments.test' in imported
    assert not imported & {*HEAVY, 'mmseg_sclip.cli.test'}


IMPORT = """
import sys
assert 'mmseg_sclip.models' in sys.modules and sys.argv[0].endswith('script.py')
late = [name for name in ('torch._dynamo', 'torchvision', 'open_clip', 'timm') if name in sys.modules]
assert not late, late
from mmseg.registry import MODELS, DATASETS, HOOKS, METRICS, TRANSFORMS
found = MODELS.get('SCLIPSegmentor'), DATASETS.get('COCOObjectDataset'), TRANSFORMS.get('LoadLabelMap')
found += HOOKS.get('AttentionVisualizationHook'), METRICS.get('ExactIoUMetric')
assert all(kind.__module__.startswith('mmseg_sclip') for kind in found), found
print('fine')
"""
USE = """
import sys, mmseg_sclip
from mmseg.apis import init_model
from mmengine.utils.dl_utils import mmcv_full_available
from mmseg.utils import collect_env
from mmseg_sclip.compat import mmcv_ops
import mmcv.utils
assert mmcv_full_available() == mmcv_ops.are_compiled() == ('mmcv._ext' in sys.modules)
assert mmcv.utils.collect_env()['MMCV']
from mmseg.models.backbones import timm_backbone
assert timm_backbone.timm is None or timm_backbone.timm.create_model('resnet18').fc
from mmseg_sclip.compat import open_clip
assert open_clip.transformer.VisionTransformer and not hasattr(open_clip, '__wrapped__')
print('fine')
"""


@pytest.mark.slow
def test_scripts_find_everything_registered_and_little_imported(tmp_path):
    """With mmcv-lite mmseg can only be imported after mmseg_sclip, so MMSegmentation's scripts are run through it."""
    (tmp_path / 'script.py').write_text(IMPORT)
    done = python('-m', 'mmseg_sclip', tmp_path / 'script.py')
    assert done.stdout.endswith('fine\n'), done.stderr
    assert 'MultiScaleDeformableAttention' not in done.stderr


@pytest.mark.slow
def test_mmsegs_own_functions_work_after_the_package():
    done = python('-c', USE)
    assert done.stdout.endswith('fine\n'), done.stderr


@pytest.mark.parametrize(
    'argv', [pytest.param(['doctor'], marks=pytest.mark.slow), ['test', 'sclip_voc21']], ids=' '.join
)
def test_an_unfit_environment(tmp_path, argv):
    """The environment looks as if open_clip were too old."""
    (tmp_path / 'open_clip_torch-2.32.0.dist-info').mkdir()
    (tmp_path / 'open_clip_torch-2.32.0.dist-info' / 'METADATA').write_text('Name: open_clip_torch\nVersion: 2.32.0\n')
    done = python('-m', 'mmseg_sclip', *argv, path=[tmp_path])
    said = done.stdout if argv == ['doctor'] else done.stderr
    assert done.returncode == 1 and 'Traceback' not in done.stderr
    assert 'open_clip_torch 2.32.0 is installed, but mmseg_sclip needs' in said
    assert '    pip install "open_clip_torch>=3,<4"\n' in said
    if argv == ['doctor']:
        assert done.stderr == ''
    else:
        assert done.stderr.startswith('Error: mmseg_sclip cannot start, because one package does not')


def test_words_of_flags_are_those_of_the_library():
    def choices(parser, flag):
        return next(action.choices for action in parser._actions if flag in action.option_strings)

    assert flags.ON_ERROR == evaluation.ON_ERROR and tuple(METHODS) == flags.METHODS and attention.OWN == OWN
    assert choices(compare.build_parser(), '--by') == tuple(CRITERIA)
    assert all(f'{word}' in segment.build_parser().format_help() for word in (AUTO, NONE))


@pytest.mark.parametrize(
    'text',
    ['1', '-1.5', '1e-3', '1_000', 'nan?', 'true', 'FALSE', 'None', 'none', '', 'a b', '"quoted"', "'1'", 'a=b', '1,2']
    + ['[1,2]', '(1, 2)', '[]', '()', '[(1,2.0),[a,None],c]', '1,(2,3),[4]', '[a,]', 'a,,b', ',', '[[1]]', '([x],)']
    + ['f(1)', '(a', '"[1,2]"', "['a','b']", '[ "x" , y ]'],
)
def test_values_are_read_as_mmengine_reads_them(text):
    value, wanted = read_value(text), DictAction._parse_iterable(text)
    assert (value, type(value)) == (wanted, type(wanted))


@pytest.mark.parametrize('text', ['f(1,2)', '[1,2', '1,2]', '(1,2]', '[(1,2),3', '[1)2,3('])
def test_brackets_that_do_not_fit_are_refused(text):
    with pytest.raises(ValueError, match=r'\w'):
        read_value(text)
