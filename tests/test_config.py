"""Reading configs: where they are found, what is beside them, and what they may not hold."""

import inspect
import re
import sys
from pathlib import Path

import mmseg
import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import runner
from mmseg.registry import DATASETS, MODELS

from mmseg_sclip.apis import SCLIPInferencer
from mmseg_sclip.config import apply_clip_flags_to_all, apply_data_flags, load_config
from mmseg_sclip.errors import ConfigError, MissingFileError
from mmseg_sclip.external_configs import get_installed_path, is_installed
from mmseg_sclip.options import check_options
from mmseg_sclip.paths import config_path


@pytest.fixture
def own_config(tmp_path):
    """`own_config(folder, text)` writes FOLDER/own.py, which inherits from the demo's config."""

    def write(folder, text):
        (tmp_path / folder).mkdir(exist_ok=True)
        path = tmp_path / folder / 'own.py'
        path.write_text(f'_base_ = [{str(config_path("sclip_demo"))!r}]\n{text}\n')
        return path

    return write


@pytest.fixture
def words(tmp_path):
    """`words(folder, word)` writes FOLDER/words.txt with twelve classes called after the word."""

    def write(folder, word):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / 'words.txt').write_text('\n'.join(f'{word} {n}' for n in range(12)))

    return write


WORDS = "model = dict(decode_head=dict(vocabulary='words.txt'))"


def build(config):
    with DefaultScope.overwrite_default_scope('mmseg'):
        return MODELS.build(config.model).decode_head.vocabulary.classes[0][0]


def test_each_config_has_the_words_beside_it(own_config, words):
    """Both are loaded, then both built, the second one first."""
    configs = []
    for folder in 'first', 'second':
        words(folder, folder)
        configs.append(load_config(own_config(folder, WORDS)))
    assert [build(config) for config in reversed(configs)] == ['second 0', 'first 0']


def test_mmseg_finds_relative_words_in_the_current_folder_only(own_config, words, tmp_path, monkeypatch):
    words('own', 'beside')
    path = own_config('own', WORDS)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"vocabulary='\{\{ fileDirname \}\}/words.txt'"):
        build(Config.fromfile(path))
    words('.', 'current')
    assert build(Config.fromfile(path)) == 'current 0'
    path = own_config('own', WORDS.replace('words.txt', '{{ fileDirname }}/words.txt'))
    assert build(Config.fromfile(path)) == 'beside 0'


@pytest.fixture
def traps(tmp_path, monkeypatch):
    """Modules in the current folder that must not run; `traps()` says which did."""
    for name in ('torch_musa', 'torch_npu', 'resource', 'json'):
        (tmp_path / f'{name}.py').write_text(f'import pathlib; pathlib.Path("{name} ran").touch()')
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, 'resource', raising=False)
    return lambda: [path.name for path in tmp_path.glob('* ran')]


@pytest.mark.parametrize('folder', ['.', 'own'])
def test_modules_in_the_users_folders_do_not_stand_in_for_others(own_config, traps, run_main, tmp_path, folder):
    (tmp_path / 'mine.py').write_text('import pathlib; pathlib.Path("mine").touch()')
    config = own_config(folder, "custom_imports = dict(imports=['mmseg_sclip', 'mine'], allow_failed_imports=False)")
    result = run_main(config, '--cfg-options', 'test_dataloader.dataset.count=1', 'test_dataloader.num_workers=0')
    assert result.code == 0, result.err
    sys.modules.pop('mine')
    assert traps() == [] and (tmp_path / 'mine').is_file()
    assert not [entry for entry in sys.path if entry.startswith(str(tmp_path))]


def test_the_inferencer_leaves_the_module_search_path_alone(own_config, traps):
    config = own_config('own', "custom_imports = dict(imports=['beside'], allow_failed_imports=False)")
    before = list(sys.path)
    (config.parent / 'beside.py').write_text('')
    with pytest.raises(ImportError, match='custom modules'):
        SCLIPInferencer(config=config)
    SCLIPInferencer(config=own_config('own', ''), device='cpu')
    assert traps() == [] and sys.path == before


@pytest.mark.parametrize('key', ['work_dir', 'randomness', 'randomness.seed', 'experiment_name'])
def test_settings_that_the_runner_reads_need_not_be_in_the_config(key):
    assert 'randomness' not in load_config('sclip_demo')
    assert key.partition('.')[0] in load_config('sclip_demo', {key: 1})


def test_settings_that_mmengine_reads_are_not_refused():
    """Whatever its runner asks of the config, by its own source."""
    config = load_config('sclip_demo')
    asked = set(re.findall(r"(?<!_)cfg\.get\(\s*'(\w+)'", inspect.getsource(runner)))
    assert {'compile', 'sync_bn', 'activation_checkpointing', 'auto_scale_lr'} <= asked
    for key in sorted(asked - {'launcher', 'resume'}):
        check_options(config, {key: 1})


FEEDING = """
img_scale = (96, 96)
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


@pytest.mark.parametrize(
    'option, place',
    [
        ('test_pipeline.2.scale', 'Set test_dataloader.dataset.pipeline.2.scale in its place'),
        ('vis_backends', 'Set visualizer.vis_backends in its place'),
        ('data_root', 'Set test_dataloader.dataset.data_root in its place'),
        ('dataset_type', 'Set test_dataloader.dataset.type in its place'),
        ('tiny_clip.test_cfg.stride', 'Set model.test_cfg.stride in its place'),  # merged into the model
        (
            'img_scale',
            r'Set test_dataloader.dataset.pipeline.1.scale and val_dataloader.*pipeline.1.scale in its place',
        ),
        ('classes', 'Set test_dataloader.dataset.metainfo.classes and val_dataloader'),
        ('data_preprocessor.mean', 'Set model.data_preprocessor.mean in its place'),
        ('mine.number', 'nothing reads it'),
        ('ratios.0', 'nothing reads it'),  # not the place of another list with this number at its start
        ('logit_scale', r'Did you mean model.test_cfg.logit_scale\?'),
        ('launcher', '--launcher'),
        ('resume', '--resume'),
        ('test_dataloader.dataset.pipeline.9.scale', 'pipeline is a list with entries 0 to 2'),
        (
            'model.test_cfg.crop_size.0',
            r'model.test_cfg.crop_size is \(64, 64\). Set model.test_cfg.crop_size as a whole',
        ),
        ('test_dataloader.dataset.data_prefix.img_dir', "nothing reads 'img_dir' there.*Did you mean 'img_path'"),
        ('test_dataloader.dataset.metainfo.clases', "Did you mean 'classes'"),
        ('env_cfg.cudnn_bench', "Did you mean 'cudnn_benchmark'"),
        ('custom_imports.import', "nothing reads 'import' there. Did you mean 'imports'"),
    ],
)
def test_options_without_effect_are_refused_with_the_place_that_has_one(own_config, option, place):
    # Where the pipeline is the demo's, the file does not replace it.
    config = 'sclip_voc21' if option.startswith('test_pipeline') else own_config('a', FEEDING)
    with pytest.raises(ConfigError, match=rf'The option {re.escape(option)}.*{place}'):
        load_config(config, {option: 1})


def test_a_module_of_the_users_may_read_a_setting_of_its_own(own_config):
    config = own_config('a', FEEDING + "custom_imports = dict(imports=['mmseg_sclip', 'json'])")
    with pytest.warns(UserWarning, match=r'mine.number changes something only if json \(custom_imports\) reads it'):
        assert load_config(config, {'mine.number': 1}).mine.number == 1
    with pytest.raises(ConfigError, match='Set visualizer.vis_backends'):
        load_config(config, {'vis_backends': 1})


def test_modules_may_be_named_in_an_option(own_config, tmp_path, monkeypatch):
    (tmp_path / 'named_in_an_option.py').write_text('')
    monkeypatch.chdir(tmp_path)
    load_config('sclip_demo', {'custom_imports.imports': ['mmseg_sclip', 'named_in_an_option']}, own_modules=True)
    assert sys.modules.pop('named_in_an_option')
    with pytest.raises(ImportError, match='Failed to import custom modules'):
        load_config('sclip_demo', {'custom_imports.imports': 'nowhere_to_be_found'})


@pytest.mark.parametrize('name', ['baselines/clip_demo', 'sclip_demo'])
def test_paths_of_the_repository_work_in_any_folder(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert load_config(f'configs/{name}.py').filename == str(config_path(name))


@pytest.mark.parametrize('name', ['sclip_vco21', 'configs/sclip_vco21.py'])
def test_a_misspelt_name_has_a_near_one(name):
    with pytest.raises(FileNotFoundError, match='sclip_vco21.*Did you mean.*sclip_voc21'):
        load_config(name)


def test_a_missing_file(tmp_path):
    with pytest.raises(MissingFileError, match='no config .*nowhere.py.*mmseg-sclip configs'):
        load_config(tmp_path / 'nowhere.py')


@pytest.mark.parametrize(
    'text, words', [('model = dict(', 'SyntaxError.*never closed'), ('a = 1', 'no model'), ('1 / 0', 'ZeroDivision')]
)
def test_a_broken_config(tmp_path, text, words):
    (tmp_path / 'own.py').write_text(text)
    with pytest.raises(ConfigError, match=rf'own\.py .*{words}'):
        load_config(tmp_path / 'own.py')


@pytest.mark.parametrize(
    'option, words',
    [
        ('model.decode_head.vocabluary=3', "'vocabluary'.*Did you mean 'vocabulary'"),
        ('model.backbone.out_clss=True', "'out_clss'.*Did you mean 'out_cls'"),
        ('model.test_cgf.stride=112', "'test_cgf'.*Did you mean 'test_cfg'"),
        ('model.type=SCLIPSegmenter', "SCLIPSegmenter.*Did you mean 'SCLIPSegmentor'"),
        ('modle.test_cfg.stride=112', "'modle'.*Did you mean 'model'"),
        ('test_dataloadr=3', "no 'test_dataloadr'.*Did you mean 'test_dataloader'"),
        ('model=3', 'has no model, or it is no dict'),
    ],
)
def test_misspelt_settings(option, words):
    key, _, value = option.partition('=')
    with pytest.raises(ConfigError, match=words):
        load_config('sclip_demo', {key: int(value) if value == '3' else value})


@pytest.mark.parametrize('indices, names', [(None, '012'), (2, '01'), (5, '012'), ([4, 3, 2, 1], '432')])
def test_max_images_are_the_first_of_those_that_the_config_takes(indices, names):
    config = load_config('sclip_demo')
    config.test_dataloader.dataset.update(count=6, indices=indices)
    apply_data_flags(config, None, 3)
    with DefaultScope.overwrite_default_scope('mmseg'):
        dataset = DATASETS.build(config.test_dataloader.dataset)
    paths = [dataset.get_data_info(index)['img_path'] for index in range(len(dataset))]
    assert [path[-5] for path in paths] == list(names)


@pytest.mark.parametrize('flag', ['--max-images=1', '--data-root=elsewhere'])
def test_flags_for_one_dataset_are_refused_where_there_are_several(own_config, run_main, flag):
    path = own_config(
        'a',
        'ds = {{_base_.test_dataloader.dataset}}\n'
        "test_dataloader = dict(dataset=dict(_delete_=True, type='ConcatDataset', datasets=[ds]))",
    )
    result = run_main(path, flag)
    assert result.code == 1
    words = f'Error: {flag.partition("=")[0]} does not fit ConcatDataset, which holds other datasets.'
    assert result.last.startswith(words)


def test_clip_flags_change_the_configs_that_have_a_clip(capsys):
    trained = Config(dict(model=dict(type='EncoderDecoder')))
    configs = [('trained', trained), ('sclip', load_config('sclip_voc21')), ('clip', load_config('clip_voc21'))]
    apply_clip_flags_to_all(configs, None, 'weights.pt')
    assert [config.model.clip.pretrained for _, config in configs[1:]] == ['weights.pt'] * 2
    assert trained.model == dict(type='EncoderDecoder')
    assert (
        capsys.readouterr().err
        == '--model-name and --pretrained leave these configs alone, which have no CLIP of open_clip: trained.\n'
    )
    with pytest.raises(ConfigError, match='none of these configs has'):
        apply_clip_flags_to_all(configs[:1], 'ViT-L-14', None)
    apply_clip_flags_to_all(configs, None, None)
    assert not capsys.readouterr().err


SEGFORMER = 'segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py'


@pytest.fixture
def segformer():
    return Config.fromfile(Path(mmseg.__file__).parent / '.mim' / 'configs' / SEGFORMER)


@pytest.mark.parametrize(
    'base',
    [
        f'mmseg::{SEGFORMER}',
        ['mmseg::_base_/models/segformer_mit-b0.py', 'mmseg::_base_/datasets/ade20k.py'],
    ],
)
def test_configs_of_mmsegmentation_are_bases(tmp_path, segformer, base):
    path = tmp_path / 'own.py'
    path.write_text(f'_base_ = {base!r}\nmodel = dict(decode_head=dict(num_classes=7))\n')
    config = Config.fromfile(path)
    assert config.model.backbone.type == segformer.model.backbone.type == 'MixVisionTransformer'
    assert config.model.decode_head.num_classes == 7
    assert config.test_dataloader.dataset.pipeline == segformer.test_dataloader.dataset.pipeline


def test_configs_of_mmsegmentation_have_names(segformer):
    assert load_config(f'mmseg::{SEGFORMER}').model == segformer.model
    with pytest.raises(MissingFileError, match=f"Did you mean 'mmseg::{SEGFORMER}'"):
        load_config(f'mmseg::{SEGFORMER[:-3]}')
    with pytest.raises(MissingFileError, match='There is no config nothing::a/b.py'):
        load_config('nothing::a/b.py')


def test_packages_are_found_by_distribution_and_by_module():
    distribution = next(name for name in ('mmsegmentation', 'onedl-mmsegmentation') if is_installed(name))
    for name in ('mmseg', distribution):
        assert is_installed(name) and get_installed_path(name) == str(Path(mmseg.__file__).parent)
    assert not is_installed('nothing')
