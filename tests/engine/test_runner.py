"""An evaluation as a function: its result file, its fingerprint, and what it refuses."""

import copy
import errno
import json
import os
import re
import sys
import types
import zipfile
from datetime import datetime

import numpy as np
import pytest
import torch
from addict import Dict
from mmengine.config import Config, ConfigDict
from mmengine.logging import MessageHub
from mmengine.registry import init_default_scope
from mmseg.evaluation import IoUMetric
from PIL import Image

from mmseg_sclip.apis import SCLIPInferencer
from mmseg_sclip.cli import attention
from mmseg_sclip.config import load_config
from mmseg_sclip.engine.evaluation import evaluate
from mmseg_sclip.engine.fingerprint import digest, fingerprint
from mmseg_sclip.engine.runner import build_model, isolated, read_checkpoint
from mmseg_sclip.engine.sources import user_sources
from mmseg_sclip.errors import BadFileError, ConfigError, OutputError
from mmseg_sclip.files import MARK
from mmseg_sclip.visual.methods import Method, model_of

KEYS = {'config', 'images', 'skipped', 'metrics', 'classes', 'versions', 'device', 'processes', 'seconds'}
KEYS |= {'precision', 'weights', 'settings', 'fingerprint'}
HELPER = 'import constants\nFACTOR = constants.TWO\n'
ATTENTION = """
from mmseg.registry import MODELS
from mmseg_sclip.models.attention import CorrelativeSelfAttention
from helpers.numbers import FACTOR

@MODELS.register_module()
class NamedInTheConfig(CorrelativeSelfAttention):
    def __init__(self):
        super().__init__()
        import importlib
        importlib.import_module('by_name')
"""


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg')


@pytest.fixture
def data(tmp_path, recipe):
    """A folder of three images with label maps."""
    for index, size in enumerate([(70, 90), (64, 64), (90, 70)]):
        for name in ('images', 'annotations'):
            (tmp_path / 'data' / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(recipe.image(index, *size)).save(tmp_path / 'data' / 'images' / f'{index}.jpg')
        labels = np.random.default_rng(index).integers(0, 12, size, dtype=np.uint8)
        Image.fromarray(labels).save(tmp_path / 'data' / 'annotations' / f'{index}.png')
    return tmp_path / 'data'


@pytest.fixture
def config(data, tmp_path):
    config = load_config('sclip_demo', {'test_dataloader.num_workers': 0})
    config.test_dataloader.dataset.data_root = str(data)
    config.work_dir = str(tmp_path / 'work')
    return config


def run(config):
    with isolated():
        return evaluate(config, 'cpu')


# --- the result -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_result_and_its_file(config, tmp_path, data):
    before = copy.deepcopy(config.to_dict())
    with isolated():
        result = evaluate(config, 'cpu')
    assert config.to_dict() == before
    written = json.loads((tmp_path / 'work' / 'result.json').read_text())
    assert result.pop('unwritten') == []
    assert written.pop('software') == MARK and written == result
    assert set(result) == KEYS
    assert (result['config'], result['images'], result['skipped']) == ('sclip_demo', 3, [])
    assert (result['device'], result['processes'], result['precision']) == ('cpu', 1, 'fp32')
    assert result['weights']['name'] == 'builtin:demo' and len(result['weights']['sha256']) == 64
    assert [entry['name'] for entry in result['classes']][:2] == ['grass', 'water']
    assert sum(entry['truth'] for entry in result['classes']) == 70 * 90 * 2 + 64 * 64
    pixels = [(entry['intersect'], entry['union']) for entry in result['classes']]
    shares = [100 * intersect / union for intersect, union in pixels if union]
    assert result['metrics']['mIoU'] == pytest.approx(sum(shares) / len(shares), abs=1e-10)
    (printed,) = (tmp_path / 'work').glob('*/*.json')
    assert {name: round(value, 2) for name, value in result['metrics'].items()} == {
        name: value for name, value in json.loads(printed.read_text()).items() if name in result['metrics']
    }
    assert result['fingerprint'] == digest(fingerprint(config, 'cpu'))
    assert run(config)['classes'] == result['classes']  # replaced by the same


@pytest.mark.slow
def test_mmsegs_metric_is_counted_exactly(config, tmp_path):
    expected = run(config)
    for kind in ('IoUMetric', 'mmseg.IoUMetric', IoUMetric):
        config.test_evaluator = [dict(type=kind, iou_metrics=['mIoU', 'mFscore'], output_dir=str(tmp_path / 'maps'))]
        result = run(config)
        assert result['classes'] == expected['classes'] and result['metrics']['mFscore'] > 0
    assert len(list((tmp_path / 'maps').iterdir())) == 3


def test_the_ignore_index_of_a_dataset_is_the_evaluators(config, data):
    """It is the key of MMSegmentation 0.x; the truth is counted here from the files."""
    truth = np.concatenate([np.asarray(Image.open(path)).ravel() for path in (data / 'annotations').iterdir()])
    dataset = config.test_dataloader.dataset
    dataset.ignore_index = [9, 3]
    result = run(config)
    assert [entry['truth'] for entry in result['classes']] == [
        0 if name in (3, 9) else (truth == name).sum() for name in range(12)
    ]
    config.test_evaluator.ignore_index = [3, 9]  # the same
    assert run(config)['classes'] == result['classes']
    config.test_evaluator.ignore_index = 255
    with pytest.raises(
        ConfigError, match=r'test_evaluator.ignore_index is 255 and test_dataloader.dataset.ignore_index is \[9, 3\]'
    ):
        run(config)
    config.test_dataloader.dataset = dict(
        type='ConcatDataset', datasets=[dict(dataset), {**dataset, 'ignore_index': 255}]
    )
    del config.test_evaluator['ignore_index']
    with pytest.raises(ConfigError, match=r'datasets.0.ignore_index is \[9, 3\] and .*datasets.1.ignore_index is 255'):
        run(config)


@pytest.mark.parametrize(
    'evaluator, words',
    [
        (dict(type='IoUMetric', ignore_label=9), "'ignore_label' in test_evaluator.*Did you mean 'ignore_index'"),
        (dict(type='IoUMetric', metrics='mIoU'), "'metrics' in test_evaluator.*Did you mean 'iou_metrics'"),
        (dict(type='Evaluator', metrics=[dict(type='IoUMetric', ignore_label=9)]), "'ignore_label' in test_evaluator"),
        (dict(metrics=dict(type='IoUMetric', iou_metrics='mIou')), "iou_metrics is 'mIou'"),
    ],
)
def test_misspelt_settings_of_mmsegs_metric(config, evaluator, words):
    config.test_evaluator = evaluator
    with pytest.raises(ConfigError, match=words):
        run(config)


@pytest.mark.parametrize('level', ['ERROR', 'INFO'])
def test_the_result_is_printed_once_at_any_level(config, capsys, level):
    config.log_level = level
    config.test_dataloader.dataset.indices = 1
    run(config)
    out = capsys.readouterr().out
    assert len(re.findall(r'Iter\(test\) \[1/1\] +aAcc: [\d.]+  mIoU: [\d.]+', out)) == 1
    assert out.count('per class results:') == out.count('|    grass ') == 1
    assert ('The model runs on' in out) == (level == 'INFO')


def test_outputs_that_hold_inputs_are_refused_before_the_first_image(config, data):
    before = {path: path.read_bytes() for path in data.rglob('*.*')}
    config.test_evaluator.output_dir = str(data / 'images' / '..' / 'annotations')
    with pytest.raises(OutputError, match='inputs of this run'):
        run(config)
    assert {path: path.read_bytes() for path in data.rglob('*.*')} == before


def test_a_result_of_unknown_origin_is_not_replaced(config, tmp_path):
    (tmp_path / 'work').mkdir()
    (tmp_path / 'work' / 'result.json').write_text('{}')
    with pytest.raises(OutputError, match='result.json'):
        run(config)
    assert (tmp_path / 'work' / 'result.json').read_text() == '{}'


@pytest.mark.slow
def test_a_full_disk_names_the_work_folder(config, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr('os.replace', full)
    (sentence,) = run(config)['unwritten']
    assert 'result.json' in sentence and 'No space left' in sentence


# --- checkpoints ------------------------------------------------------------------------------------------------------


class Payload:
    def __reduce__(self):
        return (os.mkdir, (self.folder,))


def test_checkpoints_run_no_code(tmp_path):
    payload = Payload()
    payload.folder = str(tmp_path / 'made')
    torch.save(dict(state_dict={}, more=payload), tmp_path / 'bad.pth')
    with pytest.raises(BadFileError, match='bad.pth cannot be loaded'):
        read_checkpoint(str(tmp_path / 'bad.pth'))
    with pytest.raises(BadFileError, match='bad.pth cannot be loaded'):
        read_checkpoint(f'file://{tmp_path}/bad.pth')
    assert not (tmp_path / 'made').exists()


# --- the fingerprint --------------------------------------------------------------------------------------------------


def changed(one, other):
    """The parts that differ."""
    assert set(one) == set(other) and (one == other) == (digest(one) == digest(other))
    return {name for name in one if one[name] != other[name]}


@pytest.mark.slow
def test_what_changes_the_fingerprint(config, data, tmp_path):
    first = fingerprint(config, 'cpu')
    assert changed(first, fingerprint(config, 'cpu')) == set()
    other = copy.deepcopy(config)
    other.tta_model.type = 'SegTTAModel'
    assert changed(first, fingerprint(other, 'cpu')) == {'settings'}

    other = copy.deepcopy(config)
    other.work_dir, other.test_evaluator.output_dir = 'elsewhere', 'maps'
    other.test_dataloader.update(num_workers=2, persistent_workers=True)
    assert changed(first, fingerprint(other, 'cpu')) == set()

    other.model.test_cfg.logit_scale = 41
    assert changed(first, fingerprint(other, 'cpu')) == {'settings'}

    words = tmp_path / 'words.txt'
    words.write_text('\n'.join('abcdefghijkl'))
    other = copy.deepcopy(config)
    other.model.decode_head.vocabulary = str(words)
    second = fingerprint(other, 'cpu')
    words.write_text('\n'.join('abcdefghijkm'))
    assert changed(second, fingerprint(other, 'cpu')) == {'vocabulary', 'named_files'}

    label = data / 'annotations' / '1.png'
    content = label.read_bytes()
    label.write_bytes(content[::-1])
    assert changed(first, fingerprint(config, 'cpu')) == {'data'}
    (data / 'images' / '3.jpg').write_bytes(b'new')
    assert str(data / 'images' / '3.jpg') in fingerprint(config, 'cpu')['data']


def test_weights_count_by_their_content(config, mini_json, mini_weights, tmp_path):
    prints = []
    for number in (1, 2):
        path = tmp_path / f'{number}.pt'
        path.write_bytes(mini_weights.read_bytes() + b'x' * (number - 1))
        config.model.clip = dict(model_name=str(mini_json), pretrained=str(path))
        prints.append(fingerprint(config, 'cpu')['weights'])
    assert prints[0]['sha256'] != prints[1]['sha256']
    config.load_from = str(tmp_path / '1.pt')
    assert fingerprint(config, 'cpu')['weights']['checkpoint']['sha256'] == prints[0]['sha256']
    config.model.clip.pretrained = None
    assert fingerprint(config, 'cpu')['weights']['sha256'] is None
    del config.model.clip  # a segmentor of MMSeg's
    assert set(fingerprint(config, 'cpu')['weights']) == {'checkpoint'}
    config.load_from = None
    assert fingerprint(config, 'cpu')['weights'] is None


def test_sources_of_the_package(config):
    sources = fingerprint(config, 'cpu')['sources']
    for name in ('models/attention/csa.py', 'engine/metric.py', 'datasets/vocabularies/demo.txt', '__init__.py'):
        assert len(sources[f'mmseg_sclip/{name}']) == 64


@pytest.mark.slow
def test_sources_of_the_user_and_all_that_they_import(config, tmp_path, monkeypatch):
    folder = tmp_path / 'mine'
    files = {
        'my_attention.py': ATTENTION,
        'helpers/__init__.py': '',
        'helpers/numbers.py': 'from . import more\nfrom .more import FACTOR\n',
        'helpers/more.py': HELPER,
        'constants.py': 'TWO = 2\n',
        'by_name.py': '',
        'unrelated.py': '',
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(sys, 'modules', dict(sys.modules))
    import by_name  # noqa: F401
    import my_attention
    import unrelated  # noqa: F401

    config.custom_imports = dict(imports=['mmseg_sclip', 'my_attention'], allow_failed_imports=False)
    first = fingerprint(config, 'cpu')
    mine = {name for name in first['sources'] if not name.startswith('mmseg_sclip/')}
    assert mine == {str(folder / name) for name in files if name != 'unrelated.py'}
    for name in ('constants.py', 'helpers/more.py', 'my_attention.py'):
        before = fingerprint(config, 'cpu')
        (folder / name).write_text((folder / name).read_text() + '# changed\n')
        assert changed(before, fingerprint(config, 'cpu')) == {'sources'}

    # Without custom_imports, by the class that the config names; and before a module is imported.
    config.custom_imports = dict(imports='mmseg_sclip')
    config.model.backbone.decoder.attention = dict(type='NamedInTheConfig')
    assert str(folder / 'constants.py') in fingerprint(config, 'cpu')['sources']
    config.model.backbone.decoder.attention.type = my_attention.NamedInTheConfig
    assert str(folder / 'constants.py') in fingerprint(config, 'cpu')['sources']
    for name in ('helpers', 'helpers.numbers', 'helpers.more', 'constants'):
        del sys.modules[name]
    assert str(folder / 'constants.py') in user_sources(['my_attention'])
    assert 'helpers' not in sys.modules
    assert user_sources(['torch', 'json', 'pytest', 'nowhere', 'mmseg_sclip.paths', '']) == {}


@pytest.mark.parametrize('through', ['attention', 'inferencer', 'methods'])
def test_a_checkpoint_runs_no_code_wherever_a_model_is_built(through, tmp_path, monkeypatch):
    """A pickle that would make a file when it is read."""
    made = tmp_path / 'made'

    class Payload:
        def __reduce__(self):
            return (open, (str(made), 'w'))

    path = tmp_path / 'checkpoint.pth'
    torch.save(dict(meta={}, state_dict=dict(weight=Payload())), path)
    config = load_config('sclip_demo')
    config.load_from = str(path)

    def build():
        if through == 'methods':
            with model_of([Method('mine', config)], 'cpu'):
                pass
        elif through == 'inferencer':
            SCLIPInferencer(config='sclip_demo', cfg_options=dict(load_from=str(path)), device='cpu')
        else:
            attention.main(['--demo', '--checkpoint', str(path), '--out-dir', str(tmp_path / 'out'), '--device', 'cpu'])

    with pytest.raises(BadFileError, match='more than tensors'):
        build()
    assert not made.exists()


@pytest.fixture
def settings(monkeypatch):
    """The class of settings of MMCV 0.x, which is not installed."""

    class ConfigDict(Dict):
        def __missing__(self, name):
            raise KeyError(name)

        def __getattr__(self, name):
            try:
                return super().__getattr__(name)
            except KeyError:
                raise AttributeError(name) from None

    ConfigDict.__module__, ConfigDict.__qualname__ = 'mmcv.utils.config', 'ConfigDict'
    monkeypatch.setitem(sys.modules, 'mmcv.utils.config', module := types.ModuleType('mmcv.utils.config'))
    module.ConfigDict = ConfigDict
    return ConfigDict


@pytest.mark.skipif(not hasattr(torch.serialization, 'safe_globals'), reason='names can be allowed since torch 2.5')
@pytest.mark.parametrize('numpy_2', [True, False])
def test_what_official_checkpoints_hold_is_read(tmp_path, monkeypatch, settings, numpy_2):
    """What MMEngine's and MMCV's runners save, with both names of NumPy's module."""
    hub = MessageHub('a training')
    for loss in (3.5, 1.25):
        hub.update_scalar('train/loss', loss)
    hub.update_info('best_score', np.float32(18.25))
    values = dict(
        PALETTE=np.arange(6, dtype=np.uint8).reshape(2, 3),
        columns=np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        other_order=np.array([1, 2], '>i4'),
        names=np.array(['grass', 'käse']),
        flag=np.bool_(True),
        time=datetime(2022, 5, 17, 12),
        CLASSES=('a', 'b'),
    )
    meta = dict(values, cfg=settings(model=dict(items=[dict(a=1)])), newer=ConfigDict(keys=dict(a=1)))
    state_dict = torch.nn.Linear(2, 2).state_dict()
    allowed = torch.serialization.get_safe_globals()
    saved, path = tmp_path / 'saved.pth', tmp_path / 'checkpoint.pth'
    torch.save(dict(meta=meta, state_dict=state_dict, message_hub=hub.state_dict()), saved)
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(path, 'w') as new:
        for name in old.namelist():
            content = old.read(name).replace(b'numpy._core', b'numpy.core')
            new.writestr(name, content.replace(b'numpy.core', b'numpy._core') if numpy_2 else content)
    monkeypatch.delitem(sys.modules, 'mmcv.utils.config')

    read = read_checkpoint(str(path))

    assert set(torch.serialization.get_safe_globals()) == set(allowed)
    assert read['state_dict']._metadata == state_dict._metadata
    assert all(torch.equal(read['state_dict'][key], value) for key, value in state_dict.items())
    for key, value in values.items():
        assert np.array_equal(read['meta'][key], value), key
    assert (read['meta']['cfg'], read['meta']['newer']) == (dict(model=dict(items=[dict(a=1)])), dict(keys=dict(a=1)))
    assert read['message_hub']['runtime_info']['best_score'] == np.float32(18.25)
    assert list(read['message_hub']['log_scalars']['train/loss'].values['_log_history']) == [3.5, 1.25]

    monkeypatch.delattr(torch.serialization, 'safe_globals')
    with pytest.raises(BadFileError, match=r'asks for [\w.]+, which torch 2.5 or newer can read'):
        read_checkpoint(str(path))


def test_a_model_of_mmsegmentation_is_built_from_its_config_twice():
    """Its segmentor moves `pretrained` into the backbone's config, and refuses to find it there."""
    config = Config(
        dict(
            model=dict(
                type='EncoderDecoder',
                pretrained='open-mmlab://resnet18_v1c',
                backbone=dict(type='ResNetV1c', depth=18, base_channels=8),
                decode_head=dict(
                    type='FCNHead', in_channels=64, channels=4, num_convs=1, concat_input=False, num_classes=2
                ),
            )
        )
    )
    before = copy.deepcopy(config.model.to_dict())
    for _ in range(2):
        build_model(config, 'cpu')
    assert config.model.to_dict() == before
