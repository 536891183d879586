"""What a fingerprint depends on, what is said of two that differ, and which results it keeps."""

import copy
import json
import shutil
import sys
from pathlib import Path

import pytest

from mmseg_sclip.ablation.running import kept_result
from mmseg_sclip.engine import fingerprint as module
from mmseg_sclip.engine.differences import differences
from mmseg_sclip.engine.fingerprint import TRAINING, digest, fingerprint, of_counts
from mmseg_sclip.engine.result import FILE
from mmseg_sclip.engine.sources import modules_of_types, package_sources, user_sources
from mmseg_sclip.files import MARK

ROOT, KEPT = Path(__file__).parents[2], ('mmseg_sclip', 'engine')
ATTENTION = """
from mmseg.registry import MODELS
from mmseg_sclip.models.attention import CorrelativeSelfAttention
from my_helpers.numbers import FACTOR

@MODELS.register_module()
class NamedInTheConfig(CorrelativeSelfAttention):
    def __init__(self):
        super().__init__()
        import importlib
        importlib.import_module('by_name')
"""


@pytest.fixture
def own(config, data, tmp_path):
    """The config on a copy of its data, with files that it names."""
    root = tmp_path / 'own'
    shutil.copytree(data, root)
    config.test_dataloader.dataset.data_root = str(root)
    (root / 'words.txt').write_text('\n'.join('abcdefghijkl'))
    (root / 'notes.json').write_text('{}')
    config.model = dict(type='Brightness', file=str(root / 'notes.json'))
    config.model['decode_head'] = dict(vocabulary=str(root / 'words.txt'))
    return config


def touch(name, text=' '):
    def change(config):
        with open(f'{config.test_dataloader.dataset.data_root}/{name}', 'a') as file:
            file.write(text)

    return change


def put(where, value):
    return lambda config: config.merge_from_dict({where: value})


@pytest.mark.parametrize(
    'change, parts',
    [
        (put('tta_model.type', 'SegTTAModel'), {'settings'}),
        (put('model.test_cfg', dict(logit_scale=41)), {'settings'}),
        (put('test_evaluator.ignore_index', 4), {'settings'}),
        (put('custom_hooks', [dict(type='VocabularyCheckHook')]), {'settings'}),
        (put('randomness', dict(seed=1)), {'settings'}),
        (put('env_cfg.cudnn_benchmark', True), {'settings'}),
        (touch('words.txt', 'x'), {'vocabulary', 'named_files'}),
        (touch('notes.json'), {'named_files'}),
        (touch('annotations/first/same.png'), {'data'}),
        (touch('images/1.png'), {'data'}),
        (put('work_dir', 'elsewhere'), set()),
        (put('test_evaluator.output_dir', 'maps'), set()),
        (put('test_dataloader.num_workers', 2), set()),
        (put('log_level', 'ERROR'), set()),
    ],
)
def test_what_changes_the_fingerprint(own, change, parts):
    first = fingerprint(own, 'cpu')
    change(own)
    second = fingerprint(own, 'cpu')
    assert {name for name in first if first[name] != second[name]} == parts
    assert (digest(first) == digest(second)) == (not parts)


def test_what_changes_the_fingerprint_of_a_training(own):
    own.train_dataloader = copy.deepcopy(own.test_dataloader)
    for key in ('train_cfg', 'optim_wrapper', 'randomness'):
        own[key] = dict(value=1)
    own.param_scheduler = [dict(value=1)]
    first = json.loads(json.dumps(fingerprint(own, 'cpu', sections=TRAINING)))
    for key in ('train_cfg', 'optim_wrapper', 'randomness', 'train_dataloader', 'param_scheduler'):
        other = copy.deepcopy(own)
        other[key] = [dict(value=2)] if key == 'param_scheduler' else dict(own[key], value=2)
        assert differences(first, fingerprint(other, 'cpu', sections=TRAINING)), key
    own.test_cfg.type = 'OwnLoop'  # of tests only
    assert differences(first, fingerprint(own, 'cpu', sections=TRAINING)) == ''


def test_counts_do_not_depend_on_what_is_made_of_them(own):
    first = of_counts(fingerprint(own, 'cpu'))
    own.test_evaluator.update(iou_metrics=['mDice'], nan_to_num=0, beta=2, prefix='x')
    own.env_cfg.update(dist_cfg=dict(backend='gloo'), mp_cfg=dict(mp_start_method='spawn'))
    assert of_counts(fingerprint(own, 'cpu')) == first
    own.test_evaluator.ignore_index = 1
    assert of_counts(fingerprint(own, 'cpu')) != first


def test_weights_count_by_their_content(config, mini_json, mini_weights, tmp_path):
    def weights(number):
        path = tmp_path / f'{number}.pt'
        path.write_bytes(mini_weights.read_bytes() + b'x' * number)
        config.model.clip = dict(model_name=str(mini_json), pretrained=str(path))
        return fingerprint(config, 'cpu')['weights']

    first = weights(0)
    assert first['sha256'] != weights(1)['sha256']
    config.load_from = str(tmp_path / '0.pt')
    assert fingerprint(config, 'cpu')['weights']['checkpoint']['sha256'] == first['sha256']
    del config.model.clip  # a segmentor of MMSeg's
    assert set(fingerprint(config, 'cpu')['weights']) == {'checkpoint'}
    config.load_from = None
    assert fingerprint(config, 'cpu')['weights'] is None


def test_sources_of_the_user_and_all_that_they_import(config, tmp_path, monkeypatch):
    folder = tmp_path / 'mine'
    files = dict.fromkeys(['my_helpers/__init__.py', 'by_name.py', 'unrelated.py'], '')
    files |= {'my_attention.py': ATTENTION, 'my_helpers/numbers.py': 'from . import more\nfrom .more import FACTOR\n'}
    files |= {'my_helpers/more.py': 'import constants\nFACTOR = constants.TWO\n', 'constants.py': 'TWO = 2\n'}
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    monkeypatch.syspath_prepend(folder)
    others = [name for name, module in sys.modules.items() if str(ROOT) in str(getattr(module, '__file__', ''))]
    kept = {name: module for name, module in sys.modules.items() if name not in others or name.split('.')[0] in KEPT}
    monkeypatch.setattr(sys, 'modules', kept)  # what other tests have imported does not count
    import by_name  # noqa: F401
    import my_attention
    import unrelated  # noqa: F401

    def mine():
        names = fingerprint(config, 'cpu')['sources']
        return {name for name in names if not name.startswith('mmseg_sclip/')}

    assert mine() == {str(ROOT / 'tests' / 'engine' / 'few_images.py')}  # the model of these tests
    config.model = dict(type='NoSuchModel')
    config.custom_imports = dict(imports=['mmseg_sclip', 'my_attention'], allow_failed_imports=False)
    expected = {str(folder / name) for name in files if name != 'unrelated.py'}
    assert mine() == expected
    config.custom_imports = dict(imports='mmseg_sclip')
    config.model = dict(type='NoSuchModel', parts=[dict(attention=dict(type='mmseg.NamedInTheConfig'))])
    assert mine() == expected
    monkeypatch.setattr(module, 'package_sources', package_sources)
    found = fingerprint(config, 'cpu')
    names = ['python', 'torch', 'mmengine', 'mmsegmentation', 'mmcv', 'open_clip', 'numpy', 'opencv']
    assert set(names) < set(found['versions'])
    assert {'mmseg_sclip/engine/metric.py', 'mmseg_sclip/datasets/vocabularies/demo.txt'} < set(found['sources'])
    assert found['device'] == module.device_name('cpu') == 'cpu'
    for type_ in ('NamedInTheConfig', my_attention.NamedInTheConfig):
        assert 'my_attention' in modules_of_types(dict(parts=[dict(type=type_)]))
    before = user_sources(['my_attention'])
    (folder / 'constants.py').write_text('TWO = 3\n')
    after = user_sources(['my_attention'])
    assert {name for name in before if before[name] != after[name]} == {str(folder / 'constants.py')}
    assert user_sources(['torch', 'json', 'pytest', 'nowhere', 'mmseg_sclip.paths', '', '__main__']) == {}


def test_differences_are_six_places_at_most():
    before, now = ({'a': {str(key): value for key in range(9)}} for value in (1, 'x' * 99))
    assert differences(before, before) == '' and differences(dict(before, software='x'), before) == ''
    text = differences(before, now)
    assert text.startswith(f"a.0 was 1 and is '{'x' * 56}...; a.1 was") and text.endswith('; and 3 more')
    assert differences({'a': 1}, {'b': 2}) == 'a was 1 and is None; b was None and is 2'


def test_a_result_is_kept_under_its_fingerprint_only(tmp_path):
    assert kept_result(tmp_path, 'one') is None
    (tmp_path / FILE).write_text(json.dumps(dict(fingerprint='one', metrics={}, software=MARK)))
    assert kept_result(tmp_path, 'one')['metrics'] == {}
    assert kept_result(tmp_path, 'two') is None
