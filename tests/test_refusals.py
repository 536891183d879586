"""What is refused, and the words that its message has: settings, names, own words, arguments, and arrays."""

import re

import numpy as np
import pytest
from mmengine.config import Config
from mmseg.registry import MODELS

from mmseg_sclip.apis import SCLIPInferencer, list_pictures, read_words
from mmseg_sclip.config import apply_data_flags, find_device, load_config
from mmseg_sclip.errors import ConfigError, MissingFileError, UsageError
from mmseg_sclip.images import array_to_rgb
from mmseg_sclip.model_flags import apply_model_flags_to_all
from mmseg_sclip.models.text import load_vocabulary
from mmseg_sclip.paths import config_path

RGB = np.zeros((13, 21, 3), np.uint8)
TRAINED = Config(dict(model=dict(type='EncoderDecoder')))
SEVERAL = Config(dict(test_dataloader=dict(dataset=dict(type='ConcatDataset', datasets=[]))))
# A name that only feeds others, and pipelines and words that stand in two places.
FEEDING = f"""
_base_ = [{str(config_path('sclip_demo'))!r}]
img_scale = (80, 80)
classes = ('a', *'bcdefghijkl')
mine = dict(number=7)
ratios = [96, 192]
data_preprocessor = dict(type='CLIPDataPreProcessor')
model = dict(data_preprocessor=data_preprocessor)
test_dataloader = dict(
    dataset=dict(
        metainfo=dict(classes=classes),
        pipeline=[dict(type='LoadImageFromFile'), dict(type='Resize', scale=img_scale), dict(type='PackSegInputs')],
    )
)
val_dataloader = test_dataloader
"""
FILES = {
    'feeding.py': FEEDING,
    'cut.py': 'model = dict(',
    'empty.py': 'a = 1',
    'raises.py': '1 / 0',
    'notes.txt': '',
}


def option(name, value=1, config='feeding.py'):
    return load_config(config, {name: value})


def init_cfg(place):
    return MODELS.build(load_config('sclip_demo', {f'{place}.init_cfg': dict(type='Pretrained')}).model)


def inferencer(**arguments):
    return SCLIPInferencer(**{'config': 'sclip_demo', 'device': 'cpu', **arguments})


# What is called: the error, then arguments and words of the message (a pattern).
WORDS = [
    (([], None), 'Name at least one'),
    ((['cat', ''], None), 'Class 1'),
    ((['cat', 3], None), 'Class 1'),
    ((['cat', 'dog', 'Cat'], None), "'Cat' stands twice, in the classes 'cat' and 'Cat'"),
    (([['cat', 'kitten'], ['dog', 'kitten']], None), "'kitten' stands twice"),
    ((['cat', 'wall'], ['wall']), "'wall' stands twice, in the classes 'background' and 'wall'"),
    ((['background'], 'auto'), "called 'background'"),
    ((['cat'], 'sky'), 'must be'),
    ((['cat'], []), 'must be'),
    ((['cat'], ['sky', ' ']), 'must be'),
    ((['cat'], True), 'must be'),
    ((load_vocabulary('voc21').classes[0], 'auto'), 'no words left'),
]
OPTIONS = [
    ('test_pipeline.2.scale', 'Set test_dataloader.dataset.pipeline.2.scale in its place', 1, 'sclip_voc21'),
    ('vis_backends', 'Set visualizer.vis_backends in its place'),
    ('data_root', 'Set test_dataloader.dataset.data_root in its place'),
    ('dataset_type', 'Set test_dataloader.dataset.type in its place'),
    ('tiny_clip.test_cfg.stride', 'Set model.test_cfg.stride in its place'),  # merged into the model
    ('img_scale', r'Set test_\w+.dataset.pipeline.1.scale and val_dataloader.*pipeline.1.scale in its place'),
    ('classes', 'Set test_dataloader.dataset.metainfo.classes and val_dataloader'),
    ('data_preprocessor.mean', 'Set model.data_preprocessor.mean in its place'),
    ('mine.number', 'nothing reads it'),
    ('ratios.0', 'nothing reads it'),  # not the place of another list with this number at its start
    ('logit_scale', r'Did you mean model.test_cfg.logit_scale\?'),
    ('launcher', '--launcher'),
    ('resume', '--resume'),
    ('test_dataloader.dataset.pipeline.9.scale', 'pipeline is a list with entries 0 to 2'),
    ('model.test_cfg.crop_size.0', r'model.test_cfg.crop_size is \(96, 96\). Set model.test_cfg.crop_size as a whole'),
    ('test_dataloader.dataset.data_prefix.img_dir', "'img_dir' there.*Did you mean 'img_path'"),
    ('test_dataloader.dataset.metainfo.clases', "Did you mean 'classes'"),
    ('env_cfg.cudnn_bench', "Did you mean 'cudnn_benchmark'"),
    ('custom_imports.import', "'import' there. Did you mean 'imports'"),
    ('modle.test_cfg.stride', "'modle'.*Did you mean 'model'"),
    ('test_dataloadr', "no 'test_dataloadr'.*Did you mean 'test_dataloader'"),
]
KEYS = [
    ('model.decode_head.vocabluary', 3, "'vocabluary'.*Did you mean 'vocabulary'"),
    ('model.backbone.out_clss', 'True', "'out_clss'.*Did you mean 'out_cls'"),
    ('model.test_cgf.stride', '112', "'test_cgf'.*Did you mean 'test_cfg'"),
    ('model.type', 'SCLIPSegmenter', "SCLIPSegmenter.*Did you mean 'SCLIPSegmentor'"),
    ('model', 3, 'has no model, or it is not a dict'),
]
PATHS = [
    ('sclip_voc12', r"'sclip_voc12'\. Did you mean .*sclip_voc2[01].*mmseg-sclip configs"),
    (__file__, 'No shipped config'),
    ('_base_/sclip_demo', 'No shipped config'),
    # Configs that became rows name their command.
    ('baselines/clip_pamr_voc21', 'ablate --table 1 --rows clip[+]pamr --datasets voc21`'),
    ('sclip_random_ensemble_demo', 'ablate --table 2 --rows random:4 --datasets demo`'),
    ('ablations/sclip_mode5_voc21.py', 'ablate --table 4 --rows mode5 --datasets voc21`'),
]
CONFIGS = [
    ('sclip_vco21', MissingFileError, 'sclip_vco21.*Did you mean.*sclip_voc21'),
    ('configs/sclip_vco21.py', MissingFileError, 'sclip_vco21.*Did you mean.*sclip_voc21'),
    ('/none/nowhere.py', MissingFileError, 'no config /none/nowhere.py.*mmseg-sclip configs'),
    ('nothing::a/b.py', MissingFileError, 'There is no config nothing::a/b.py'),
    ('cut.py', ConfigError, r'cut\.py .*SyntaxError.*never closed'),
    ('empty.py', ConfigError, r'empty\.py has no model'),
    ('raises.py', ConfigError, r'raises\.py .*ZeroDivision'),
]
INFERENCER = [
    (dict(config=None), ConfigError, 'Give classes'),
    (dict(classes=['a', 'a']), ConfigError, 'twice'),
    (dict(attention='MaskClp'), ConfigError, "Did you mean 'MaskCLIP'"),
    (dict(pamr=1.5), ConfigError, 'PAMR.steps is 1.5'),
    (dict(background=None), ConfigError, 'belongs to classes of your own'),
    (dict(cfg_options={'modle.x': 1}), ConfigError, "no 'modle'"),
    (dict(classes=['cat ' * 100]), ConfigError, 'longer than'),
    (dict(config='sclip_dmo'), MissingFileError, 'sclip_dmo'),
    (dict(device='qpu'), UsageError, 'qpu cannot be used.*This machine has: cpu'),
]
PICTURES = [
    ('none.jpg', MissingFileError, 'none.jpg. Correct'),
    ('*.jpg', MissingFileError, r'\*.jpg.*holds no picture'),
    ('.', MissingFileError, r'holds no picture and 5 other files \(.*, \.\.\.\)'),
    ([], ConfigError, 'empty'),
    (3, TypeError, 'int'),
    ('x' * 300, MissingFileError, 'xxx'),
]
ARRAYS = [
    *(((RGB, order), "'bgr' ") for order in (None, 'RGB', 'gbr')),
    *(((array, 'rgb'), 'shape') for array in (RGB.transpose(2, 0, 1), RGB[None], RGB[:0], RGB[0, 0])),
    *(((RGB.astype(dtype), 'rgb'), 'uint8') for dtype in (float, bool, np.int64)),
]
FLAGS = [
    (find_device, ('meta',), UsageError, 'meta cannot be used'),
    (apply_data_flags, (SEVERAL, None, 0), UsageError, '--max-images is 0; it must be at least 1'),
    (apply_data_flags, (SEVERAL, None, 1), ConfigError, '--max-images does not fit ConcatDataset.*set indices'),
    (apply_data_flags, (SEVERAL, 'a', None), ConfigError, '--data-root does not fit ConcatDataset.*set data_root'),
    (apply_model_flags_to_all, ([('a', TRAINED)], 'ViT-L-14', None), ConfigError, 'none of these configs has'),
    (load_config, ('feeding.py', {'model.decode_head.vocabulary': 'none'}), MissingFileError, 'none'),
]
TABLE = [
    *((read_words, args, ConfigError, words) for args, words in WORDS),
    *((read_words, ('cat', None), MissingFileError, words) for words in [r"given as a list: \['cat'\]"]),
    *((option, (name, *more), ConfigError, f'The option {re.escape(name)}.*{words}') for name, words, *more in OPTIONS),
    *((option, (name, value), ConfigError, words) for name, value, words in KEYS),
    *((config_path, (name,), MissingFileError, words) for name, words in PATHS),
    *((load_config, (name,), error, words) for name, error, words in CONFIGS),
    *((lambda given: inferencer(**given), (given,), error, words) for given, error, words in INFERENCER),
    *((list_pictures, (given,), error, words) for given, error, words in PICTURES),
    *((array_to_rgb, args, ConfigError, words) for args, words in ARRAYS),
    *((init_cfg, (at,), ConfigError, f'{at}.init_cfg') for at in ('model', 'model.backbone', 'model.decode_head')),
    *FLAGS,
]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('refusals')
    for name, text in FILES.items():
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize('call, arguments, error, words', TABLE, ids=[entry[3][:40] for entry in TABLE])
def test_what_is_refused(folder, monkeypatch, call, arguments, error, words):
    monkeypatch.chdir(folder)
    with pytest.raises(error) as raised:
        call(*arguments)
    assert re.search(words, str(raised.value))
