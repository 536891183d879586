"""What a person can get wrong: exit code 1, no traceback, and one last line that names the cause and the remedy."""

import json
import shutil
import sys

import cv2
import mmcv
import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file

from mmseg_sclip.cli.configuring import load_config
from mmseg_sclip.cli.errors import describe
from mmseg_sclip.models.text.vocabulary import SHIPPED
from mmseg_sclip.paths import config_path

SIMPLE = 'model.decode_head.templates=simple'
NO_WORKERS = 'test_dataloader.num_workers=0'


def check(code, out, err, words):
    last = err.rstrip('\n').rpartition('\n')[2]
    print(last)
    assert code == 1, out[-2000:] + err
    assert 'Traceback' not in out + err, err
    assert last.startswith('Error: ')
    for word in words:
        assert word in last, last


@pytest.fixture
def fails(run_main, small_voc, mini_json, mini_weights):
    """`fails(*words, config=..., flags=..., options=...)`: the run ends with an error line that holds the words."""

    def run(*words, config='sclip_voc21', clip=(mini_json, mini_weights), data=small_voc, flags=(), options=()):
        clip = [] if clip is None else ['--model-name', clip[0], '--pretrained', clip[1]]
        result = run_main(
            config, *clip, '--data-root', data, *flags, '--cfg-options', SIMPLE, NO_WORKERS, *options
        )  # later options win
        check(*result, words)

    return run


@pytest.fixture
def own_voc(small_voc, tmp_path):
    """A copy of the small VOC folder, to be damaged."""
    return shutil.copytree(small_voc, tmp_path / 'own VOC2012')


@pytest.fixture
def own_config(tmp_path):
    """Writes a config that inherits from a shipped one."""

    def write(text, base='sclip_voc21'):
        (tmp_path / 'own.py').write_text(f'_base_ = [{str(config_path(base))!r}]\n{text}\n')
        return tmp_path / 'own.py'

    return write


@pytest.fixture
def no_encoding(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError('text was encoded before the error')

    monkeypatch.setattr('mmseg_sclip.models.heads.text_similarity.encode_phrases', refuse)


# --- data -------------------------------------------------------------------------------------------------------------


def test_missing_data_folder(fails, tmp_path):
    fails('nowhere does not exist', '--data-root', data=tmp_path / 'nowhere')


def test_data_folder_of_another_level(fails, small_voc):
    fails('JPEGImages does not exist', 'must hold JPEGImages', '--data-root', data=small_voc.parent)


def test_empty_image_folder(fails, own_voc):
    for path in (own_voc / 'JPEGImages').iterdir():
        path.unlink()
    fails('JPEGImages is empty', data=own_voc)


def test_missing_split_file(fails, own_voc):
    (own_voc / 'ImageSets/Segmentation/val.txt').unlink()
    fails('val.txt does not exist', '--data-root', data=own_voc)


def test_empty_split_file(fails, own_voc):
    (own_voc / 'ImageSets/Segmentation/val.txt').write_text('')
    fails('val.txt names no image', data=own_voc)


def test_no_image_has_the_suffix(fails, own_voc):
    options = ['test_dataloader.dataset.ann_file=', 'test_dataloader.dataset.img_suffix=.jpeg']
    fails('JPEGImages holds no image', '.jpeg', data=own_voc, options=options)


def test_image_that_the_split_names_is_missing(fails, own_voc):
    (own_voc / 'JPEGImages/1.jpg').unlink()
    fails('1.jpg does not exist, but the dataset lists it', data=own_voc)


def test_label_map_that_is_missing(fails, own_voc):
    (own_voc / 'SegmentationClass/1.png').unlink()
    fails('SegmentationClass/1.png does not exist, but the dataset lists it', data=own_voc)


DAMAGES = {
    'random': lambda content: np.random.RandomState(0).bytes(len(content)),
    'half': lambda content: content[: len(content) // 2],
    'empty': lambda content: b'',
}


@pytest.mark.parametrize('damage', DAMAGES)
@pytest.mark.parametrize('file', ['JPEGImages/1.jpg', 'SegmentationClass/1.png'])
def test_damaged_file(fails, own_voc, damage, file):
    path = own_voc / file
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    fails(f'{path} is damaged', data=own_voc)


def test_damaged_file_in_a_loader_worker(fails, own_voc):
    (own_voc / 'JPEGImages/1.jpg').write_bytes(b'no picture')
    fails('1.jpg is damaged', data=own_voc, options=['test_dataloader.num_workers=2'])


def test_a_format_that_pillow_cannot_read_is_not_called_damaged(fails, own_voc):
    (own_voc / 'JPEGImages/1.jpg').unlink()
    cv2.imwrite(str(own_voc / '1.hdr'), np.ones((90, 47, 3), np.float32))
    (own_voc / '1.hdr').rename(own_voc / 'JPEGImages/1.jpg')
    (own_voc / 'SegmentationClass/1.png').write_bytes(b'')
    fails('SegmentationClass/1.png is damaged', data=own_voc)


@pytest.mark.filterwarnings('ignore:Please pay attention your ground truth')
def test_label_map_in_colour(fails, own_voc):
    cv2.imwrite(str(own_voc / 'SegmentationClass/1.png'), np.zeros((90, 47, 3), np.uint8))
    fails('SegmentationClass/1.png', 'has channels', 'one class number a pixel', data=own_voc)


def test_label_map_of_another_size(fails, own_voc):
    cv2.imwrite(str(own_voc / 'SegmentationClass/1.png'), np.zeros((45, 24), np.uint8))
    fails('SegmentationClass/1.png', '45 x 24', '90 x 47', data=own_voc)


def test_image_smaller_than_a_patch(fails, own_voc):
    cv2.imwrite(str(own_voc / 'JPEGImages/1.jpg'), np.zeros((2, 600, 3), np.uint8))  # 7 x 2048 after Resize
    cv2.imwrite(str(own_voc / 'SegmentationClass/1.png'), np.zeros((2, 600), np.uint8))
    fails('JPEGImages/1.jpg', '7 x 2048', '16 x 16', 'Resize', data=own_voc)


# --- vocabulary and prompts -------------------------------------------------------------------------------------------


def vocabulary(path, change):
    lines = (SHIPPED / 'voc21.txt').read_text().splitlines()
    path.write_text('\n'.join(change(lines)) + '\n')


def test_vocabulary_one_line_short(fails, own_config, no_encoding, tmp_path):
    vocabulary(tmp_path / 'words.txt', lambda lines: lines[:-1])
    config = own_config("model = dict(decode_head=dict(vocabulary='words.txt', class_names=None))")
    fails('words.txt has 20 classes', 'PascalVOCDataset has 21', 'correct the file', config=config)


def test_vocabulary_one_line_short_for_given_names(fails, own_config, no_encoding, tmp_path):
    vocabulary(tmp_path / 'words.txt', lambda lines: lines[:-1])
    fails(
        '(PascalVOCDataset) has 21 names',
        'words.txt has 20 classes',
        'Correct the vocabulary',
        config=own_config("model = dict(decode_head=dict(vocabulary='words.txt'))"),
    )


def test_vocabulary_of_another_dataset(fails, no_encoding):
    options = ['model.decode_head.vocabulary=ade20k', 'model.decode_head.class_names=None']
    fails('150 classes', '21', options=options)


def test_vocabulary_with_a_blank_line(fails, own_config, no_encoding, tmp_path):
    vocabulary(tmp_path / 'words.txt', lambda lines: [*lines[:4], '', *lines[4:]])
    config = own_config("model = dict(decode_head=dict(vocabulary='words.txt'))")
    fails('Line 5 of the vocabulary', 'words.txt is blank', 'delete the line', config=config)


def test_misspelt_vocabulary(fails, no_encoding):
    fails("no vocabulary 'voc12'", "Did you mean 'voc21'", options=['model.decode_head.vocabulary=voc12'])


def test_class_names_of_another_length(fails, own_config, no_encoding):
    config = own_config("model = dict(decode_head=dict(class_names=['thing', 'stuff']))")
    fails('class_names has 2 names', 'voc21.txt has 21 classes', 'class_names=None', config=config)


def test_background_that_is_no_class(fails):
    fails('background_index is 21', '0 to 20', options=['model.decode_head.background_index=21'])


def test_too_long_prompt(fails, own_config, tmp_path):
    phrase = 'very ' * 80 + 'long cat'
    vocabulary(tmp_path / 'words.txt', lambda lines: [*lines[:-1], phrase])
    config = own_config("model = dict(decode_head=dict(vocabulary='words.txt'))")
    fails('longer than the 77 tokens', phrase, 'Shorten', config=config)


@pytest.mark.parametrize(
    'value, words',
    [('opneai_imagenet', "Did you mean 'openai_imagenet'?"), ('[a photo]', 'exactly one {}'), ('3', 'openai_imagenet')],
)
def test_bad_templates(fails, no_encoding, value, words):
    fails(words, 'template', options=[f'model.decode_head.templates={value}'])


# --- weights ----------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings('ignore:.torch.jit:FutureWarning')
class TestArchive:
    @pytest.fixture
    def archive(self, tmp_path, openai_archive, mini_state):
        openai_archive(tmp_path / 'ViT-mini.pt', mini_state)
        return tmp_path / 'ViT-mini.pt'

    def test_plain_gelu(self, fails, archive, mini_json, tmp_path):
        (tmp_path / 'gelu.json').write_text(json.dumps({**json.loads(mini_json.read_text()), 'quick_gelu': False}))
        words = 'ViT-mini.pt were trained with QuickGELU', 'built with GELU', '"quick_gelu": true'
        fails(*words, clip=(tmp_path / 'gelu.json', archive))

    def test_cut(self, fails, archive, mini_json):
        archive.write_bytes(archive.read_bytes()[:-5000])
        fails('ViT-mini.pt cannot be read', 'fetch it again', clip=(mini_json, archive))


def test_plain_gelu_name_with_its_tag(fails, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError('the download came before the check')

    monkeypatch.setattr(open_clip, 'download_pretrained', refuse)
    words = "'openai' were trained with QuickGELU", 'ViT-B-16 is built with GELU', "model_name='ViT-B-16-quickgelu'"
    fails(*words, clip=('ViT-B-16', 'openai'))


WRITERS = {
    'new.pt': lambda state, path: torch.save(state, path),
    'old.bin': lambda state, path: torch.save(state, path, _use_new_zipfile_serialization=False),
    'new.safetensors': lambda state, path: save_file(state, path),
}


@pytest.mark.parametrize('kept', [0, 30, 200, 2**20])
@pytest.mark.parametrize('name', WRITERS)
def test_cut_weights(fails, mini_state, mini_json, tmp_path, name, kept):
    WRITERS[name](mini_state, tmp_path / name)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:kept])
    fails(f'{name} cannot be read', 'damaged', 'etch it again', clip=(mini_json, tmp_path / name))


def test_a_web_page_in_place_of_weights(fails, mini_json, tmp_path):
    (tmp_path / 'page.pt').write_text('<!DOCTYPE html><title>404</title>')
    fails('page.pt cannot be read', 'damaged', 'Fetch it again', clip=(mini_json, tmp_path / 'page.pt'))


@pytest.mark.parametrize(
    'vision, words',
    [
        (dict(layers=4), 'visual.transformer.resblocks.3'),
        (dict(layers=2), 'visual.transformer.resblocks.2'),
        (dict(width=192), '197x128 in the file and 197x192'),
        (dict(image_size=336), '197x128 in the file and 442x128'),
    ],
)
def test_weights_of_another_architecture(fails, mini_json, mini_weights, tmp_path, vision, words):
    model = json.loads(mini_json.read_text())
    model['vision_cfg'].update(vision)
    (tmp_path / 'other.json').write_text(json.dumps(model))
    fails('mini.pt do not fit', words, 'Give the model_name', clip=(tmp_path / 'other.json', mini_weights))


@pytest.mark.parametrize(
    'content, words',
    [
        (dict(state_dict={}), 'no state dict'),
        (torch.zeros(3), 'no state dict'),
        (dict(epoch=3), "a int under 'epoch'"),
        (dict(model=np.zeros(3)), 'objects other than tensors'),
    ],
    ids=['empty', 'tensor', 'number', 'pickle'],
)
def test_file_without_weights(fails, mini_json, tmp_path, content, words):
    torch.save(content, tmp_path / 'other.pt')
    fails('other.pt', words, clip=(mini_json, tmp_path / 'other.pt'))


@pytest.mark.parametrize(
    'clip, words',
    [
        (('ViT-B-16-quickglu', 'openai'), ["'ViT-B-16-quickglu'", "Did you mean 'ViT-B-16-quickgelu'?"]),
        (('RN50-quickgelu', 'openai'), ['RN50-quickgelu cannot be used', 'ResNet', 'ViT-B-16-quickgelu']),
        (('ViT-B-16-SigLIP', 'webli'), ['ViT-B-16-SigLIP cannot be used', 'timm', 'ViT-B-16-quickgelu']),
        (('coca_ViT-B-32', 'laion2b_s13b_b90k'), ['coca_ViT-B-32 cannot be used', 'ViT-B-16-quickgelu']),
        (('ViT-B-16-quickgelu', 'opnai'), ["'opnai'", 'neither a file nor a tag', "Did you mean 'openai'?"]),
        (('local-dir:/tmp', 'openai'), ['pretrained must be None', 'Set pretrained=None']),
        (('builtin:demo', 'openai'), ['pretrained must be None', 'Set pretrained=None']),
        (('missing.json', 'openai'), ['no model description missing.json']),
    ],
    ids=lambda value: value[0].partition('/')[0] if isinstance(value, tuple) else '',
)
def test_model_name(fails, clip, words):
    fails(*words, clip=clip)


def test_folder_that_is_missing(run_main, small_voc):
    result = run_main('sclip_voc21', '--data-root', small_voc, '--model-name', 'local-dir:nowhere')
    check(*result, ['no folder nowhere'])


def test_misspelt_builtin_model(run_main, small_voc):
    result = run_main('sclip_voc21', '--data-root', small_voc, '--model-name', 'builtin:dmeo')
    check(*result, ["'builtin:dmeo'", "'builtin:demo'"])


def test_weights_file_that_is_missing(fails, mini_json):
    fails("'missing.pt'", 'neither a file nor a tag', clip=(mini_json, 'missing.pt'))


@pytest.mark.parametrize('text, words', [('{', 'not valid JSON'), ('[]', 'embed_dim'), ('{"a": 1}', 'embed_dim')])
def test_broken_model_description(fails, mini_weights, tmp_path, text, words):
    (tmp_path / 'broken.json').write_text(text)
    fails('broken.json', words, clip=(tmp_path / 'broken.json', mini_weights))


def test_model_description_with_an_unknown_key(fails, mini_json, mini_weights, tmp_path):
    model = json.loads(mini_json.read_text())
    model['vision_cfg']['head_widht'] = 64
    (tmp_path / 'other.json').write_text(json.dumps(model))
    fails('other.json', 'head_widht', clip=(tmp_path / 'other.json', mini_weights))


# --- config -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('key, value', [('prob_thd', 0.1), ('area_thd', 0.1), ('area_thd', 0)])
def test_threshold_without_background(fails, key, value):
    options = [f'model.test_cfg.{key}={value}', 'model.decode_head.class_names=None']
    fails(f'test_cfg.{key}', 'background_index is None', f'{key}=None', config='sclip_voc20', options=options)


@pytest.mark.parametrize(
    'option, words',
    [
        ('model.test_cfg.stirde=112', ["'stirde'", 'model.test_cfg', "Did you mean 'stride'?"]),
        ('model.clip.precison=fp32', ["'precison'", 'model.clip', "Did you mean 'precision'?"]),
        ('model.clip.precision=fp8', ["'fp8'", 'fp32']),
        ('model.backbone.decoder.residul=True', ["'residul'", 'backbone.decoder', "Did you mean 'residual'?"]),
        ('model.backbone.decoder.attention.projection=q', ["'projection'", "Did you mean 'projections'?"]),
        ('model.backbone.decoder.attention.projections=w', ["'w'", "'q', 'k', 'v'"]),
        (
            'model.backbone.decoder.attention.type=CorelativeSelfAttention',
            ['CorelativeSelfAttention', "Did you mean 'CorrelativeSelfAttention'?", 'custom_imports'],
        ),
        ('model.backbone.decoder.type=LstBlock', ['LstBlock', "Did you mean 'LastBlock'?"]),
        ('model.backbone.decoder.type=IdentityAttention', ['IdentityAttention', 'no Decoder']),
        ('model.backbone.positions=scal', ['positions', "Did you mean 'scale'?"]),
        ('model.backbone.out_clss=True', ["'out_clss'", "Did you mean 'out_cls'?"]),
        ('model.decode_head.vocabluary=voc21', ["'vocabluary'", "Did you mean 'vocabulary'?"]),
        ('model.test_cgf.stride=112', ["'test_cgf'", "Did you mean 'test_cfg'?"]),
        ('model.type=SCLIPSegmenter', ['SCLIPSegmenter', "Did you mean 'SCLIPSegmentor'?"]),
        ('model.test_cfg=3', ['model.test_cfg is 3', 'must be a dict']),
        ('model.clip=ViT-B-16', ['model.clip is', 'must be a dict']),
        ('stride', ['KEY=VALUE', "'stride' is none"]),
        ('modle.test_cfg.stride=112', ["'modle'", "Did you mean 'model'?"]),
        ('model.test_cfg.mode=slid', ['mode', "Did you mean 'slide'?"]),
        ('model.test_cfg.stride=300', ['stride', 'uncovered']),
        ('model.test_cfg.pamr.stpes=10', ["'stpes'", "Did you mean 'steps'?"]),
        ('model.pretrained=x.pt', ['top-level pretrained', 'clip=']),
        ('model.backbone.clip.model_name=ViT-B-16', ['model.backbone.clip', 'Move it there']),
        ('test_dataloader.dataset.type=PascalVOCDatset', ['PascalVOCDatset']),
        ('test_dataloadr=3', ["no 'test_dataloadr'", "Did you mean 'test_dataloader'?"]),
        ('test_dataloader=3', ['test_dataloader is 3', 'must be a dict']),
        ('test_dataloader.dataset=3', ['test_dataloader.dataset is 3', 'must be a dict']),
        ('test_dataloader.dataset.data_prefix=None', ['data_prefix is None', 'must be a dict', 'img_path=']),
        ('model=3', ['model is 3', 'must be a dict']),
        ('test_evaluator=None', ['no test_evaluator (it is None)', 'mmseg-sclip configs']),
        ('test_evaluator=3', ['test_evaluator is 3', 'IoUMetric']),
        ('test_cfg=None', ['no test_cfg (it is None)', 'mmseg-sclip configs']),
        ('test_cfg=3', ['test_cfg is 3', 'must be a dict']),
        ('custom_hooks=3', ['custom_hooks is 3', 'list of dicts', 'VocabularyCheckHook']),
        ('default_hooks=3', ['default_hooks is 3', 'must be a dict']),
        ('load_from=missing.pth', ['no checkpoint missing.pth', "config's load_from", 'load_from=None']),
    ],
    ids=lambda value: value if isinstance(value, str) else '',
)
def test_misspelt_setting(fails, no_encoding, option, words):
    fails(*words, options=[option])


def test_missing_config_file(run_main, tmp_path):
    check(*run_main(tmp_path / 'nowhere.py'), ['no config', 'nowhere.py', 'mmseg-sclip configs'])


@pytest.mark.parametrize('name', ['sclip_vco21', 'configs/sclip_vco21.py'])
def test_misspelt_shipped_config(run_main, name):
    check(*run_main(name), ['sclip_vco21', 'Did you mean', 'sclip_voc21'])


def test_custom_hooks_that_are_a_dict(fails, own_config):
    config = own_config("custom_hooks = dict(_delete_=True, type='VocabularyCheckHook')")
    fails("custom_hooks is {'type': 'VocabularyCheckHook'}", 'a list of dicts', config=config)


@pytest.mark.parametrize(
    'option, words',
    [
        ('seed=-1', 'seed of the painted scenes is -1; it must be a whole number from 0 on'),
        ('count=two', "count of the painted scenes is 'two'; it must be a whole number from 1 on"),
        ('count=0', 'count of the painted scenes is 0'),
        ('size=7', 'size of the painted scenes is 7; it must be a whole number from 8 on'),
        ('size=64.0', 'size of the painted scenes is 64.0'),
        ('max_regions=13', 'max_regions of the painted scenes is 13; it must be a whole number from 1 to 12'),
    ],
)
def test_painted_scenes(run_main, option, words):
    name, _, _ = option.partition('=')
    result = run_main('sclip_demo', '--cfg-options', NO_WORKERS, f'test_dataloader.dataset.{option}')
    check(*result, [words, f'test_dataloader.dataset.{name}=N'])


@pytest.mark.parametrize('key', ['work_dir', 'randomness', 'randomness.seed', 'experiment_name'])
def test_settings_that_the_runner_reads_need_not_be_in_the_config(key, monkeypatch):
    monkeypatch.setattr('sys.path', list(sys.path))
    assert 'randomness' not in load_config('sclip_demo')
    assert key.partition('.')[0] in load_config('sclip_demo', {key: 1})


@pytest.mark.parametrize('name', ['baselines/clip_demo', 'sclip_demo'])
def test_paths_of_the_repository_work_in_any_folder(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('sys.path', list(sys.path))
    assert load_config(f'configs/{name}.py').filename == str(config_path(name))


@pytest.mark.parametrize(
    'text, words', [('model = dict(', 'never closed'), ('a = 1', 'no model'), ('1 / 0', 'division')]
)
def test_broken_config(run_main, tmp_path, text, words):
    (tmp_path / 'own.py').write_text(text)
    check(*run_main(tmp_path / 'own.py'), [words, 'own.py'])


def test_module_that_cannot_be_imported(run_main, own_config):
    config = own_config("custom_imports = dict(imports=['mmseg_sclip', 'my_attenshun'], allow_failed_imports=False)")
    check(*run_main(config), ['my_attenshun', 'custom_imports'])


# --- flags and checkpoint ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'flags, words',
    [
        (['--launcher', 'pytorch'], ['--launcher pytorch is not supported yet', 'without --launcher']),
        (['--tta'], ['--tta is not supported yet']),
        (['--show'], ['--show needs a screen', '--show-dir']),
        (['--device', 'cuda:99'], ['--device cuda:99 cannot be used', 'cpu']),
        (['--device', 'gpu'], ['--device gpu cannot be used', 'cpu']),
        (['--device', 'meta'], ['--device meta cannot be used', 'This machine has: cpu']),
        (['--launcher', 'torch'], ['--launcher', 'torch', '--help']),
        (['--outt', 'x'], ['--outt', '--help']),
        (['missing.pth'], ['no checkpoint missing.pth', 'leave it out']),
    ],
    ids=lambda value: ' '.join(value) if value[0].startswith('--') else '',
)
def test_flags(run_main, small_voc, mini_json, mini_weights, monkeypatch, flags, words):
    monkeypatch.delenv('DISPLAY', raising=False)
    monkeypatch.delenv('WAYLAND_DISPLAY', raising=False)
    clip = ['--model-name', mini_json, '--pretrained', mini_weights]
    check(*run_main('sclip_voc21', *flags, '--data-root', small_voc, *clip), words)


@pytest.mark.parametrize('flag', ['--out', '--show-dir', '--work-dir'])
@pytest.mark.parametrize('name', ['file', 'file/inside'])
def test_a_file_in_place_of_a_folder(fails, monkeypatch, tmp_path, flag, name):
    monkeypatch.setattr('mmseg_sclip.cli.test.load_config', None)
    (tmp_path / 'file').write_text('kept')
    words = f'{flag} {tmp_path / name} must be a folder', f'{tmp_path / "file"} is a file', 'another folder'
    fails(*words, flags=[flag, tmp_path / name])
    assert (tmp_path / 'file').read_text() == 'kept'


def test_the_load_from_of_a_config_is_used(fails, no_encoding, tmp_path):
    path = checkpoint(tmp_path / 'other.pth', {'decode_head.conv_seg.weight': torch.zeros(3)})
    fails('no weight for this model', options=[f'load_from={path}'])


class TestShowDir:
    OPTIONS = ('model.test_cfg.crop_size=64', 'test_dataloader.dataset.count=2', NO_WORKERS)

    def config(self, tmp_path, visualizer):
        config = load_config('sclip_demo')
        for key in ('visualizer', 'vis_backends', 'default_hooks', 'custom_hooks'):
            config.pop(key)
        if visualizer:
            config.visualizer = visualizer
        config.dump(tmp_path / 'own.py')
        return tmp_path / 'own.py'

    @pytest.mark.parametrize('earlier', [False, True])
    def test_without_a_visualizer(self, run_main, tmp_path, earlier):
        pictures = tmp_path / 'pictures'
        if earlier:
            pictures.mkdir()
            (pictures / '000000.png').write_bytes(b'earlier')
        config = self.config(tmp_path, None)
        result = run_main(config, '--show-dir', pictures, '--cfg-options', *self.OPTIONS)
        assert result.code == 0 and f'2 pictures are in {pictures}' in result.out, result.err
        assert sorted(path.name for path in pictures.iterdir()) == ['000000.png', '000001.png']
        assert mmcv.imread(pictures / '000000.png').shape == (128, 256, 3)  # beside the ground truth

    @pytest.mark.parametrize('visualizer', [dict(type='Visualizer', name='plain'), dict(type='SegLocalVisualzer')])
    def test_a_visualizer_that_cannot_draw(self, run_main, tmp_path, visualizer):
        config = self.config(tmp_path, visualizer)
        result = run_main(config, '--show-dir', tmp_path / 'pictures', '--cfg-options', *self.OPTIONS)
        check(*result, ['--show-dir needs a visualizer that draws', visualizer['type'], "type='SegLocalVisualizer'"])


def test_out_of_memory_has_a_remedy():
    error = torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has 79.1 GiB. Of it ...')
    line = describe(error)
    assert 'model.test_cfg.window_batch=4' in line and '--device cpu' in line
    assert line.endswith('(CUDA out of memory. Tried to allocate 20.00 GiB)')


def test_debug_shows_the_traceback(run_main, small_voc):
    result = run_main('sclip_voc21', '--data-root', small_voc, '--model-name', 'nothing', '--debug')
    assert result.code == 1 and 'Traceback' in result.err and result.last.startswith('Error: ')


def checkpoint(path, state):
    meta = dict(dataset_meta=dict(classes=['a'], palette=[[0, 0, 0]]))
    torch.save(dict(meta=meta, state_dict=state), path)
    return path


def test_checkpoint_of_another_model(fails, no_encoding, tmp_path):
    path = checkpoint(tmp_path / 'other.pth', {'decode_head.conv_seg.weight': torch.zeros(3)})
    fails('no weight for this model', 'decode_head.conv_seg.weight', flags=[path])


def test_checkpoint_of_another_width(fails, no_encoding, tmp_path):
    path = checkpoint(tmp_path / 'other.pth', {'backbone.tower.visual.proj': torch.zeros(3, 4)})
    fails('made for another model', 'backbone.tower.visual.proj', '(3, 4)', flags=[path])


def test_cut_checkpoint(fails, no_encoding, tmp_path):
    path = checkpoint(tmp_path / 'cut.pth', {'x': torch.zeros(1000)})
    path.write_bytes(path.read_bytes()[:500])
    fails('cut.pth cannot be loaded', 'damaged', flags=[path])


# --- as a person sees it: a process of its own ------------------------------------------------------------------------


@pytest.mark.parametrize('case', ['data', 'weights', 'worker'])
def test_in_a_process(case, run_tool, own_voc, mini_json, mini_weights, tmp_path):
    data, weights, words = own_voc, mini_weights, []
    if case == 'data':
        data, words = tmp_path / 'nowhere', ['nowhere does not exist', '--data-root']
    elif case == 'weights':
        weights, words = tmp_path / 'cut.pt', ['cut.pt cannot be read', 'fetch it again']
        weights.write_bytes(mini_weights.read_bytes()[:100000])
    else:
        (own_voc / 'JPEGImages/1.jpg').write_bytes(b'no picture')
        words = ['1.jpg is damaged']
    result = run_tool(
        'sclip_voc21',
        *('--model-name', mini_json, '--pretrained', weights, '--data-root', data, '--cfg-options', SIMPLE),
        cwd=tmp_path,
    )
    check(result.returncode, result.stdout, result.stderr, words)
