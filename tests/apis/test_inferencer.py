"""Against MMSegmentation's `init_model` and `inference_model` on configs that say the same."""

import json
import logging
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from matplotlib import colormaps
from mmengine.logging import MMLogger
from mmseg.apis import inference_model, init_model
from PIL import Image

from mmseg_sclip.apis import SCLIPInferencer, read_words, writing
from mmseg_sclip.apis.settings import build_config
from mmseg_sclip.config import load_config
from mmseg_sclip.datasets.palette import distinct_palette
from mmseg_sclip.datasets.scenes import scene
from mmseg_sclip.errors import BadFileError, ConfigError, MissingFileError, OutputError, UserError
from mmseg_sclip.files import is_ours
from mmseg_sclip.visual.figure import draw

# From the paper's code, without those that the classes below name.
BACKGROUND = (
    'sky, wall, tree, wood, grass, road, sea, river, mountain, sands, desk, building, cloud, lamp, door, window, '
    'wardrobe, ceiling, shelf, curtain, stair, floor, hill, rail, fence'
)
CLASSES = ['cat', ['couch', 'Bed'], 'remote control', 'кошка 猫']
RGB = dict(channel_order='rgb')
equal = np.testing.assert_array_equal


@pytest.fixture(scope='module')
def painted():
    return scene('evaluation', 0, 28, 128, 6)


@pytest.fixture(scope='module')
def small(painted):
    return painted.image[:64, :64]


@pytest.fixture(scope='module')
def files(tmp_path_factory, recipe, painted):
    """A folder with photo.jpg for the mini CLIP and scene.png for the demo's."""
    folder = tmp_path_factory.mktemp('files')
    Image.fromarray(recipe.image(5, 90, 130)).save(folder / 'photo.jpg', quality=95)
    Image.fromarray(painted.image).save(folder / 'scene.png')
    return folder


@pytest.fixture(scope='module')
def photo(files):
    return files / 'photo.jpg'


@pytest.fixture(scope='module')
def demo():
    """The tiny CLIP with its own twelve classes; not to be changed."""
    return SCLIPInferencer(config='sclip_demo', device='cpu')


@pytest.fixture(scope='module')
def inferencer(mini_clip):
    """`inferencer(classes, background, **more)` with the mini CLIP and one template."""
    options = {'model.decode_head.templates': 'simple'}
    return lambda *args, **more: SCLIPInferencer(
        *args, **{**mini_clip, 'device': 'cpu', 'cfg_options': options, **more}
    )


@pytest.fixture(scope='module')
def own(inferencer):
    """The mini CLIP with words of our own; not to be changed."""
    return inferencer(CLASSES)


@pytest.fixture(scope='module')
def evaluated(mini_clip):
    """`evaluated(name, path, **head)`: the sample that MMSegmentation's own functions get from a config."""

    def run(name, path, refine=(), **head):
        config = load_config(name)
        config.model.test_cfg.update(keep_scores=True, refine=[*refine])
        if head:
            config.model.clip = dict(mini_clip)
            config.model.decode_head.update(class_names=None, templates='simple', **head)
        sample = inference_model(init_model(config, device='cpu'), str(path))
        return sample.pred_sem_seg.data[0].numpy(), sample.seg_logits.data.numpy()

    return run


def test_the_code_path_of_the_evaluation(own, evaluated, photo, tmp_path):
    (tmp_path / 'words.txt').write_text(f'{BACKGROUND}\ncat\ncouch, Bed\nremote control\nкошка 猫\n', encoding='utf-8')
    labels, scores = evaluated('sclip_voc21', photo, vocabulary=str(tmp_path / 'words.txt'))
    assert len(np.unique(labels)) >= 3  # else equal labels mean little
    result = own(photo, return_scores=True)
    equal(result['labels'], labels)
    equal(result['scores'], scores)
    assert result['labels'].dtype == np.uint8 and result['scores'].dtype == np.float32
    assert result['image'] == str(photo)
    assert result['names'] == ['background', 'cat', 'couch', 'remote control', 'кошка 猫']
    assert result['phrases'] == [BACKGROUND.split(', '), ['cat'], ['couch', 'Bed'], ['remote control'], ['кошка 猫']]
    assert result['coverage'] == pytest.approx([100 * (labels == label).mean() for label in range(5)], rel=1e-12)
    assert result['colours'] == distinct_palette(5, background_index=0)
    assert not {'scores', 'files', 'heatmaps'} & {*own(photo)}


def test_without_background_there_are_no_thresholds(inferencer, evaluated, photo):
    words = ['cat', ['couch', 'Bed']]
    _, scores = evaluated('clip_voc20', photo, [dict(type='PAMR', steps=2)], vocabulary=words)
    result = inferencer(words, None, attention='clip', pamr=2)(str(photo), return_scores=True)
    equal(result['scores'], scores)
    equal(result['labels'], scores.argmax(axis=0))
    assert result['names'] == ['cat', 'couch'] and result['colours'] == distinct_palette(2)


@pytest.mark.parametrize(
    'background, config, options, settings',
    [
        ('auto', None, {}, (65, 0.1, 0.1)),
        (None, None, {}, (40, None, None)),
        (None, None, {'prob_thd': 0.3}, (40, 0.3, None)),  # said on purpose: refused when it is built
        ('auto', None, {'area_thd': None}, (65, 0.1, None)),
        ('auto', 'sclip_demo', {}, (65, 0.1, 0.1)),  # has none of its own
        ('auto', 'sclip_demo', {'prob_thd': 0.3}, (65, 0.3, 0.1)),
        (None, 'sclip_voc21', {'logit_scale': 7}, (7, None, None)),
        ('auto', 'sclip_context60', {}, (50, 0.1, None)),
        (None, 'sclip_voc21', {}, (65, None, None)),
        ('auto', 'cliper_voc21', {}, (None, 0.6, None)),
    ],
)
def test_settings_are_those_of_the_configs(background, config, options, settings):
    options = {f'model.test_cfg.{key}': value for key, value in options.items()}
    test_cfg = build_config(read_words(['cat'], background), config, cfg_options=options).model.test_cfg
    assert tuple(test_cfg[key] for key in ('logit_scale', 'prob_thd', 'area_thd')) == settings


def test_attention_is_exchanged(tmp_path):
    """In the last block, inside another decoder, and in the default one."""
    own = load_config('sclip_demo')
    del own.model.backbone['decoder']
    own.dump(tmp_path / 'own.py')
    attention = dict(type='VanillaSelfAttention')
    for config, given in (('sclip_demo', 'VanillaSelfAttention'), ('freecp_sclip_demo', 'clip'), ('own.py', attention)):
        path = tmp_path / config if config == 'own.py' else config
        decoder = build_config(None, path, attention=given).model.backbone.decoder
        assert decoder.get('decoder', decoder).attention == attention
    assert decoder.type == 'LastBlock'
    without = {'model.backbone.decoder': dict(_delete_=True, type='LastBlock')}
    with pytest.raises(ConfigError, match='has no attention that could be exchanged'):
        build_config(None, 'sclip_demo', attention='clip', cfg_options=without)


def test_classes_of_a_config(demo, evaluated, inferencer, painted, files):
    result = demo(files / 'scene.png')
    equal(result['labels'], evaluated('sclip_demo', files / 'scene.png')[0])
    assert (result['labels'] == painted.label).mean() > 0.8
    assert result['names'][:3] == ['grass', 'water', 'sand'] and len(result['names']) == 12
    assert result['colours'][1] == (40, 110, 175)  # the demo's dataset says it
    voc = inferencer(config='sclip_voc21')
    assert voc.words.class_names[:2] == ('background', 'aeroplane') and len(voc.words.classes[0]) == 26
    assert voc.colours[:2] == [(0, 0, 0), (128, 0, 0)]
    assert voc(painted.image, classes=['cat'], **RGB)['names'] == ['background', 'cat']
    assert demo(painted.image, classes=['lava'], **RGB)['names'] == ['lava']


def test_arrays_and_their_order(demo, painted, files):
    wanted, bgr = demo(files / 'scene.png')['labels'], painted.image[..., ::-1]
    for given, order in ((painted.image, 'rgb'), (bgr, 'bgr'), (Image.fromarray(painted.image), None)):
        result = demo(given, channel_order=order)
        equal(result['labels'], wanted)
        assert result['image'] is None
    assert (demo(bgr, **RGB)['labels'] != wanted).mean() > 0.05
    with pytest.raises(ConfigError, match='channel_order'):
        demo(painted.image)
    said = SCLIPInferencer(config='sclip_demo', channel_order='bgr', device='cpu')
    for result in (*said([bgr, str(files / 'scene.png')]), said(painted.image, **RGB)):  # a call wins
        equal(result['labels'], wanted)


def test_photographs_are_upright(demo, painted, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = painted.image[:100]
    Image.fromarray(lying).save(tmp_path / 'lying.png', exif=exif)
    equal(demo(tmp_path / 'lying.png')['labels'], demo(np.rot90(lying, -1), **RGB)['labels'])


def test_words_change_from_call_to_call(inferencer, mini_clip, photo, tmp_path, fresh_cache):
    """Also when the weights are gone: the text tower is kept."""
    weights = shutil.copy(mini_clip['pretrained'], tmp_path / 'mini.pt')
    changing = inferencer(['cat', 'dog'], None, pretrained=str(weights))
    first = changing(photo, return_scores=True)
    weights.unlink()
    words = ['猫', ['γάτα', 'σκύλος'], 'dog']
    other = changing(photo, return_scores=True, classes=words)
    # Words that are encoded together with others differ by rounding.
    np.testing.assert_allclose(other['scores'], inferencer(words, None)(photo, return_scores=True)['scores'], atol=1e-5)
    assert other['names'] == ['猫', 'γάτα', 'dog'] and len(other['colours']) == 3
    equal(changing(photo, return_scores=True)['scores'], first['scores'])


def test_the_same_words_are_not_encoded_again(demo, small, monkeypatch):
    encoder, asked = demo.model.decode_head.text_encoder, []
    encode = encoder.encode
    monkeypatch.setattr(encoder, 'encode', lambda words, *args: asked.append(words) or encode(words, *args))
    for more in ({}, dict(classes=list(demo.words.class_names)), dict(return_scores=True), dict(heatmaps=True)):
        demo(small, **RGB, **more)
    assert not asked
    demo(small, **RGB, classes=['lava', 'snow'])
    assert asked == [('lava', 'snow')]


def test_the_background_changes_from_call_to_call(own, inferencer, photo):
    """As in an inferencer that was made so, thresholds and logit scale included."""
    before = own(photo, return_scores=True)
    for background in ('none', ['wall', 'sky']):
        result = own(photo, return_scores=True, background=background)
        wanted = inferencer(CLASSES, background)(photo, return_scores=True)
        equal(result['labels'], wanted['labels'])
        np.testing.assert_allclose(result['scores'], wanted['scores'], atol=1e-5)
        assert result['names'] == wanted['names'] and result['colours'] == wanted['colours']
    assert own(photo, classes=['cat'], background=None)['names'] == ['cat']
    assert own(photo, classes=['cat'])['names'] == ['background', 'cat']
    equal(own(photo, return_scores=True, background='auto')['scores'], before['scores'])


@pytest.mark.slow
def test_two_threads_with_different_words(own, photo, tmp_path):
    """Each gets what it would get alone, files included."""
    wishes = [
        dict(classes=['cat', ['couch', 'Bed']], return_scores=True, heatmaps=True),
        dict(classes=['snow', 'sky', 'dog'], background=None, return_scores=True),
    ]
    alone = [own(photo, **wish) for wish in wishes]
    start = threading.Barrier(2)

    def work(which):
        start.wait()
        return [own(photo, out_dir=tmp_path / f'{which}-{turn}', **wishes[which]) for turn in range(3)]

    with ThreadPoolExecutor(2) as pool:
        for results, wanted in zip(pool.map(work, (0, 1)), alone, strict=True):
            for result in results:
                assert result['names'] == wanted['names'] and result['coverage'] == wanted['coverage']
                for key in {'labels', 'scores', 'heatmaps'} & {*wanted}:
                    equal(result[key], wanted[key])
    assert own.model.dataset_meta['classes'] == list(own.words.class_names)


def test_files(own, photo, tmp_path):
    out = tmp_path / 'new' / 'out'
    result = own(photo, out_dir=out)
    assert sorted(path.name for path in out.iterdir()) == ['photo.png', 'photo_overlay.png', 'summary.json']
    assert result['files'] == dict(labels='photo.png', overlay='photo_overlay.png')
    written = Image.open(out / 'photo.png')
    assert written.mode == 'P' and is_ours(out / 'photo.png') and is_ours(out / 'photo_overlay.png')
    equal(np.asarray(written), result['labels'])
    equal(np.asarray(written.convert('RGB')), np.array(result['colours'])[result['labels']])

    overlay = np.asarray(Image.open(out / 'photo_overlay.png').convert('RGB')).astype(int)
    for label, colour in enumerate(result['colours'][1:], 1):  # the legend's fields; black is in the text too
        assert ((overlay == colour).all(axis=-1).sum() > 50) == (label in result['labels'])

    (summary,) = json.loads((out / 'summary.json').read_text(encoding='utf-8'))
    assert summary['image'] == str(photo) and summary['size'] == [130, 90] and summary['files'] == result['files']
    columns = [[entry[key] for entry in summary['classes']] for key in ('name', 'phrases', 'coverage', 'colour')]
    assert columns[:3] == [result[key] for key in ('names', 'phrases', 'coverage')]
    assert columns[3] == [*map(list, result['colours'])]
    assert any(entry['coverage'] == 0 for entry in summary['classes'])


def test_heat_is_the_probability_of_the_phrase(own, photo, tmp_path, monkeypatch):
    drawn, forwards = [], []
    monkeypatch.setattr(writing, 'draw', lambda rows, **more: drawn.append((rows[0][0], more)) or draw(rows, **more))
    handle = own.model.backbone.tower.block(1).register_forward_hook(lambda *_: forwards.append(1))
    plain, result = (own(photo, return_scores=True, heatmaps=wanted) for wanted in (False, True))
    handle.remove()
    assert len(forwards) == 2, 'heat takes no forward of its own'
    heat, scores = result['heatmaps'], result['scores']
    equal(scores, plain['scores'])
    equal(result['labels'], plain['labels'])
    assert heat.shape == (30, 90, 130) and heat.dtype == np.float32
    np.testing.assert_allclose(heat.sum(axis=0), 1, atol=1e-5)
    groups = np.stack([heat[:25].max(axis=0), heat[25], heat[26:28].max(axis=0), heat[28], heat[29]])
    kept = scores > 0  # by the area threshold
    np.testing.assert_allclose(groups[kept], scores[kept], atol=1e-6)

    result = own(photo, out_dir=tmp_path, heatmaps=True, classes=['cat', ['couch', 'Bed']], background=None)
    names = ['photo_heat_1.png', 'photo_heat_2.png', 'photo_heat_3.png']
    assert result['files']['heatmaps'] == dict(zip(['cat', 'couch', 'Bed'], names, strict=True))
    assert {path.name for path in tmp_path.glob('*_heat_*')} == set(names)
    rgb = np.asarray(Image.open(photo)).astype(float)
    for (panel, more), phrase, heat in zip(drawn, ['cat', 'couch', 'Bed'], result['heatmaps'], strict=True):
        assert panel.title == phrase and more['scale'] == 'probability'
        np.testing.assert_allclose(panel.picture, 0.4 * rgb + 0.6 * 255 * colormaps['turbo'](heat)[..., :3], atol=6)


@pytest.mark.parametrize(
    'config, options',
    [
        ('freecp_sclip_demo', {}),
        ('cliper_demo', {}),
        ('gem_demo', dict(refine=[dict(type='ForegroundOnly')], logit_scale=100, prob_thd=0.5)),
    ],
)
def test_heat_of_the_background_is_what_labels_come_from(small, config, options):
    options = {f'model.test_cfg.{key}': value for key, value in options.items()}
    segment = SCLIPInferencer(['grass', 'water', 'sand'], ['brick', 'wood'], config=config, cfg_options=options)
    result = segment(small, heatmaps=True, return_scores=True, **RGB)
    heat, scores = result['heatmaps'], result['scores']
    wanted = np.concatenate([heat[:2].max(axis=0, keepdims=True), heat[2:]])
    kept = scores.any(axis=(1, 2))  # by the area threshold
    assert heat.shape[0] == 5 and kept.any()
    np.testing.assert_allclose(wanted[kept], scores[kept], atol=1e-6)


def test_heat_of_a_phrase_of_two_classes(small, tmp_path):
    result = dict(image=None, labels=np.zeros((64, 64), np.uint8), heatmaps=np.zeros((4, 64, 64), np.float32))
    result.update(phrases=[['brick', 'grass'], ['water'], ['grass']], names=['brick', 'water', 'grass'])
    result.update(colours=distinct_palette(3), coverage=[100, 0, 0])
    files = writing.ResultWriter(tmp_path).write(result, small)['heatmaps']
    assert list(files) == ['brick', 'grass (2)', 'water', 'grass (4)']
    assert set(files.values()) == {path.name for path in tmp_path.glob('*_heat_*')}


@pytest.mark.slow
def test_stems_that_repeat(demo, small, tmp_path):
    inputs = [tmp_path / name for name in ('in/a.png', 'in/a.jpg', 'in/A.bmp', 'in/a_overlay.png', 'in/sub/a.png')]
    for path in inputs:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(small).save(path)
    out = tmp_path / 'out'
    for _ in range(2):  # a second run replaces the files of the first
        results = demo([*map(str, inputs), small, small], out_dir=out, **RGB)
        written = [name.lower() for result in results for name in result['files'].values()]
        assert len(written) == len(set(written)) == 14 and len(list(out.iterdir())) == 15
        stems = [result['files']['labels'].removesuffix('.png') for result in results]
        assert stems == ['a', 'a-2', 'A-3', 'a_overlay-2', 'a-4', 'array', 'array-2']
    summary = json.loads((out / 'summary.json').read_text())
    assert [entry['image'] for entry in summary] == [*map(str, inputs), None, None]
    for entry, result in zip(summary, results, strict=True):
        equal(np.asarray(Image.open(out / entry['files']['labels'])), result['labels'])


def test_nothing_of_the_user_is_written_over(demo, small, tmp_path):
    out = tmp_path / 'out'
    out.mkdir()
    Image.fromarray(small).save(tmp_path / 'a.png')
    with pytest.raises(OutputError, match='name another folder'):
        demo(tmp_path / 'a.png', out_dir=out / '..')
    (out / 'a_overlay.png').write_text('mine')
    for _ in range(2):  # but what the first run wrote, the second may
        assert demo(tmp_path / 'a.png', out_dir=out)['files']['labels'] == 'a-2.png'
    assert (out / 'a_overlay.png').read_text() == 'mine'
    (out / 'a_overlay.png').unlink()
    with pytest.raises(MissingFileError, match='holds no picture and 3 other files'):
        demo(out, out_dir=tmp_path / 'again')  # no label map and no overlay is taken for a picture
    (out / 'summary.json').write_text('{"mine": 1}')
    with pytest.raises(OutputError, match='not a summary of segmented pictures'):
        demo(tmp_path / 'a.png', out_dir=out)
    assert (out / 'summary.json').read_text() == '{"mine": 1}'


@pytest.fixture
def folder(painted, tmp_path):
    """Three pictures, the second of them damaged."""
    folder = tmp_path / 'photos'
    folder.mkdir()
    for number in range(3):
        Image.fromarray(painted.image[:70, : 60 + number]).save(folder / f'{number}.jpg')
    content = (folder / '1.jpg').read_bytes()
    (folder / '1.jpg').write_bytes(content[: len(content) // 2])
    return folder


def listed(out):
    return [entry['image'].rpartition('/')[2] for entry in json.loads((out / 'summary.json').read_text())]


def test_a_damaged_picture_costs_no_other(demo, folder, tmp_path):
    assert isinstance(demo(str(folder / '0.jpg')), dict) and len(demo(str(folder / '[0]*.jpg'))) == 1
    with pytest.raises(BadFileError, match=r'1\.jpg is damaged'):
        demo(folder, out_dir=tmp_path / 'first')
    assert listed(tmp_path / 'first') == ['0.jpg']
    errors = []
    stream = demo.stream(folder, tmp_path / 'out', on_error=lambda *given: errors.append([*map(str, given)]))
    shapes = [next(stream)['labels'].shape]
    assert listed(tmp_path / 'out') == ['0.jpg']  # also where the process is killed now
    shapes += [result['labels'].shape for result in stream]
    assert shapes == [(70, 60), (70, 62)] and listed(tmp_path / 'out') == ['0.jpg', '2.jpg']
    ((picture, error),) = errors
    assert picture == str(folder / '1.jpg') and '1.jpg is damaged' in error


def test_pictures_of_a_pixel_and_of_a_line(own):
    for shape in ((1, 1), (3, 60)):
        assert own(np.full((*shape, 3), 90, np.uint8), **RGB)['labels'].shape == shape
    with pytest.raises(BadFileError, match='The array .*patch'):  # 7 pixels high when it is 2048 wide
        own(np.full((1, 300, 3), 90, np.uint8), **RGB)


def test_very_many_classes(demo, small, tmp_path):
    for count, dtype in ((255, np.uint8), (256, np.uint16)):
        names = [f'thing {number}' for number in range(count)]
        result = demo(small, classes=names, **RGB)
        assert result['labels'].dtype == dtype and len(result['coverage']) == count
    with pytest.raises(ConfigError, match='256 classes.*at most 255'):
        demo(small, classes=names, out_dir=tmp_path, **RGB)


def test_no_cityscapes_and_no_warnings(recwarn, caplog):
    """What MMSegmentation's inferencer does to a model without a checkpoint, and MMEngine's to its collate."""
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    made = SCLIPInferencer(['lava', 'snow'], None, config='sclip_demo', device='cpu')
    logger.removeHandler(caplog.handler)
    assert made.model.dataset_meta['classes'] == ['lava', 'snow']
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING] and not recwarn.list


def test_wrong_calls_spoil_no_later_one(demo, small, tmp_path):
    (tmp_path / 'file').touch()
    before = demo(small, **RGB)['labels']
    for wrong, words in (
        (dict(classes=['lava', 'x ' * 100]), 'longer than'),
        (dict(classes=['lava', 'Lava']), 'twice'),
        (dict(out_dir=tmp_path / 'file'), 'out_dir .*file must be a folder'),
    ):
        with pytest.raises(UserError, match=words):
            demo(small, **RGB, **wrong)
    equal(demo(small, **RGB)['labels'], before)


def test_a_device(painted, device, demo):
    there = SCLIPInferencer(config='sclip_demo', device=str(device))
    assert next(there.model.parameters()).device.type == torch.device(device).type
    assert (there(painted.image, **RGB)['labels'] == demo(painted.image, **RGB)['labels']).mean() > 0.99
