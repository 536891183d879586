"""Reading configs: where they are found, what is beside them, and what flags change."""

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

from mmseg_sclip import config as module
from mmseg_sclip.compat.external_configs import get_installed_path, is_installed
from mmseg_sclip.config import apply_data_flags, apply_pamr, input_files, load_config
from mmseg_sclip.errors import ConfigError, MissingFileError
from mmseg_sclip.model_flags import apply_model_flags_to_all
from mmseg_sclip.options import check_options
from mmseg_sclip.paths import config_path, scenes_root


@pytest.fixture
def own_config(tmp_path):
    """`own_config(folder, text)` writes FOLDER/own.py, which inherits from the demo's config."""

    def write(folder, text):
        (tmp_path / folder).mkdir(exist_ok=True)
        path = tmp_path / folder / 'own.py'
        path.write_text(f'_base_ = [{str(config_path("sclip_demo"))!r}]\n{text}\n')
        return path

    return write


WORDS = "model = dict(decode_head=dict(vocabulary='words.txt'))"


def test_each_config_has_the_words_beside_it(own_config):
    """Both are loaded, then both built, the second one first; MMEngine alone has no folder beside the config."""
    paths = [own_config(folder, WORDS) for folder in ('first', 'second')]
    for path in paths:
        path.with_name('words.txt').write_text('\n'.join(f'{path.parent.name} {n}' for n in range(12)))
    configs = [load_config(path) for path in paths]
    with DefaultScope.overwrite_default_scope('mmseg'):
        heads = [MODELS.build(config.model).decode_head for config in reversed(configs)]
        assert [head.vocabulary.classes[0][0] for head in heads] == ['second 0', 'first 0']
        with pytest.raises(MissingFileError, match=r"vocabulary='\{\{ fileDirname \}\}/words.txt'"):
            MODELS.build(Config.fromfile(paths[0]).model)


@pytest.mark.parametrize('folder', ['.', 'own'])
def test_modules_in_the_users_folders_do_not_stand_in_for_others(own_config, run_main, tmp_path, monkeypatch, folder):
    for name in ('torch_musa', 'torch_npu', 'resource', 'json'):
        (tmp_path / f'{name}.py').write_text(f'import pathlib; pathlib.Path("{name} ran").touch()')
    monkeypatch.delitem(sys.modules, 'resource', raising=False)
    (tmp_path / 'mine.py').write_text('import pathlib; pathlib.Path("mine").touch()')
    config = own_config(folder, "custom_imports = dict(imports=['mmseg_sclip', 'mine'], allow_failed_imports=False)")
    result = run_main(config, '--cfg-options', 'test_dataloader.dataset.count=1', 'test_dataloader.num_workers=0')
    assert result.code == 0, result.err
    sys.modules.pop('mine')
    assert not list(tmp_path.glob('* ran')) and (tmp_path / 'mine').is_file()
    assert not [entry for entry in sys.path if entry.startswith(str(tmp_path))]


def test_settings_that_mmengine_reads_are_not_refused():
    """Whatever its runner asks of the config, by its own source, though the config has none of them."""
    config = load_config('sclip_demo')
    asked = set(re.findall(r"(?<!_)cfg\.get\(\s*'(\w+)'", inspect.getsource(runner)))
    assert {'compile', 'sync_bn', 'activation_checkpointing', 'auto_scale_lr'} <= asked
    for key in sorted({*asked, 'work_dir', 'randomness.seed', 'experiment_name'} - {'launcher', 'resume'}):
        check_options(config, {key: 1})
    assert 'randomness' not in config and load_config('sclip_demo', {'randomness.seed': 1}).randomness.seed == 1


def test_a_module_of_the_users_may_read_a_setting_of_its_own(own_config):
    config = own_config('a', "mine = dict(number=7)\ncustom_imports = dict(imports=['mmseg_sclip', 'json'])")
    with pytest.warns(UserWarning, match=r'mine.number changes something only if json \(custom_imports\) reads it'):
        assert load_config(config, {'mine.number': 1}).mine.number == 1
    with pytest.raises(ConfigError, match='Set visualizer.vis_backends'):
        load_config(config, {'vis_backends': 1})


def test_modules_may_be_named_in_an_option(tmp_path, monkeypatch):
    (tmp_path / 'named_in_an_option.py').write_text('')
    monkeypatch.chdir(tmp_path)
    named = {'custom_imports.imports': ['mmseg_sclip', 'named_in_an_option']}
    before = sorted(sys.path)
    with pytest.raises(ImportError, match='Failed to import custom modules'):
        load_config('sclip_demo', named)  # where Python's own search path counts
    load_config('sclip_demo', named, own_modules=True)
    assert sys.modules.pop('named_in_an_option') and sorted(sys.path) == before


def test_paths_of_the_repository_work_in_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ('baselines/clip_demo', 'sclip_demo'):
        assert load_config(f'configs/{name}.py').filename == str(config_path(name))


@pytest.mark.parametrize('indices, names', [(None, '012'), (2, '01'), (5, '012'), ([4, 3, 2, 1], '432')])
def test_max_images_are_the_first_of_those_that_the_config_takes(indices, names):
    config = load_config('sclip_demo')
    config.test_dataloader.dataset.update(count=6, indices=indices)
    apply_data_flags(config, None, 3)
    with DefaultScope.overwrite_default_scope('mmseg'):
        dataset = DATASETS.build(config.test_dataloader.dataset)
    paths = [dataset.get_data_info(index)['img_path'] for index in range(len(dataset))]
    assert [path[-5] for path in paths] == list(names)


def test_clip_flags_change_the_configs_that_have_a_clip(capsys):
    trained = Config(dict(model=dict(type='EncoderDecoder')))
    configs = [('trained', trained), ('sclip', load_config('sclip_voc21')), ('clip', load_config('clip_voc21'))]
    apply_model_flags_to_all(configs, None, 'weights.pt')
    assert [config.model.clip.pretrained for _, config in configs[1:]] == ['weights.pt'] * 2
    assert trained.model == dict(type='EncoderDecoder')
    told = '--model-name and --pretrained leave these configs alone, which have no CLIP of open_clip: trained.\n'
    assert capsys.readouterr().err == told
    apply_model_flags_to_all(configs[1:], 'local-dir:here', None)  # it brings its own weights
    assert configs[1][1].model.clip == dict(model_name='local-dir:here', pretrained=None)
    apply_model_flags_to_all(configs[1:], 'ViT-L-14', 'openai')
    assert configs[2][1].model.clip == dict(model_name='ViT-L-14', pretrained='openai')
    apply_model_flags_to_all(configs, None, None)
    assert not capsys.readouterr().err


def test_pamr_goes_in_front_and_comes_out():
    model = dict(test_cfg=dict(refine=[dict(type='DenseCRF'), dict(type='PAMR', steps=3, sigma=1)]))
    for steps, wanted in ((None, ['DenseCRF', 'PAMR']), (5, ['PAMR', 'DenseCRF']), (0, ['DenseCRF'])):
        config = Config(dict(model=model))
        apply_pamr(config, steps)
        assert [entry.type for entry in config.model.test_cfg.refine] == wanted
        assert steps != 5 or config.model.test_cfg.refine[0] == dict(type='PAMR', steps=5)
    config = load_config('lposs_plus_voc21')  # whose own work at the size of the network's input
    apply_pamr(config, 5)
    wanted = ['PixelPropagation', 'SynonymMaximum', 'PAMR']
    assert [entry.type for entry in config.model.test_cfg.refine] == wanted
    with pytest.raises(ConfigError, match='refine is .* it must be a list such as'):
        apply_pamr(Config(dict(model=dict(test_cfg=dict(refine="[dict(type='PAMR')]")))), 5)


def test_what_a_run_reads():
    config = load_config('sclip_voc21', {'model.clip.model_name': 'local-dir:/clip', 'load_from': '/a.pth'})
    config.model.clip.pretrained = '/weights.pt'
    config.test_dataloader.dataset.data_root = '/voc'
    config.train_dataloader = dict(dataset=dict(data_root='/own', data_prefix=dict(img_path='images')))
    wanted = [config.filename, config.model.decode_head.vocabulary, '/a.pth', '/weights.pt', '/clip', '/own/images']
    wanted += [f'/voc/{part}' for part in ('JPEGImages', 'SegmentationClass', 'ImageSets/Segmentation/val.txt')]
    assert {*input_files(config)} == {*wanted, str(scenes_root())}


def test_a_checkpoint_is_looked_for_unless_it_has_an_address(tmp_path):
    (tmp_path / 'there.pth').touch()
    for fine in (None, str(tmp_path / 'there.pth'), 'https://host/none.pth'):
        module.check_checkpoint(Config(dict(load_from=fine)), 'Train one.')
    with pytest.raises(MissingFileError, match='no checkpoint none.pth. Train one.'):
        module.check_checkpoint(Config(dict(load_from='none.pth')), 'Train one.')


SEGFORMER = 'segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py'


@pytest.fixture
def segformer():
    return Config.fromfile(Path(mmseg.__file__).parent / '.mim' / 'configs' / SEGFORMER)


def test_configs_of_mmsegmentation_are_bases(tmp_path, segformer):
    path = tmp_path / 'own.py'
    bases = ['mmseg::_base_/models/segformer_mit-b0.py', 'mmseg::_base_/datasets/ade20k.py']
    path.write_text(f'_base_ = {bases!r}\nmodel = dict(decode_head=dict(num_classes=7))\n')
    config = Config.fromfile(path)
    assert config.model.backbone.type == segformer.model.backbone.type == 'MixVisionTransformer'
    assert config.model.decode_head.num_classes == 7
    assert config.test_dataloader.dataset.pipeline == segformer.test_dataloader.dataset.pipeline


def test_configs_of_mmsegmentation_have_names(segformer):
    assert load_config(f'mmseg::{SEGFORMER}').model == segformer.model
    with pytest.raises(MissingFileError, match=f"Did you mean 'mmseg::{SEGFORMER}'"):
        load_config(f'mmseg::{SEGFORMER[:-3]}')
    with pytest.raises(ConfigError, match='looks inside a CLIP'):
        module.check_is_clip(load_config(f'mmseg::{SEGFORMER}'))
    module.check_is_clip(load_config('sclip_demo'))


def test_packages_are_found_by_distribution_and_by_module():
    distribution = next(name for name in ('mmsegmentation', 'onedl-mmsegmentation') if is_installed(name))
    for name in ('mmseg', distribution):
        assert is_installed(name) and get_installed_path(name) == str(Path(mmseg.__file__).parent)
    assert not is_installed('nothing')
