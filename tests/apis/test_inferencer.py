"""Against MMSegmentation's `init_model` and `inference_model` on configs that say the same."""

import json
import logging
import shutil

import cv2
import numpy as np
import pytest
import torch
from matplotlib import colormaps
from mmengine.logging import MMLogger
from mmseg.apis import inference_model, init_model
from PIL import Image

from mmseg_sclip.apis import SCLIPInferencer, writing
from mmseg_sclip.apis.writing import ResultWriter
from mmseg_sclip.cli.configuring import load_config
from mmseg_sclip.demo.scenes import scene
from mmseg_sclip.pictures import distinct_colours

# From the paper's code, without those that the classes below name.
BACKGROUND = (
    'sky, wall, tree, wood, grass, road, sea, river, mountain, sands, desk, building, cloud, lamp, door, window, '
    'wardrobe, ceiling, shelf, curtain, stair, floor, hill, rail, fence'
)
CLASSES = ['cat', ['couch', 'Bed'], 'remote control', 'кошка 猫']
OPTIONS = {'model.decode_head.templates': 'simple'}


@pytest.fixture(scope='module')
def painted():
    return scene('evaluation', 0, 28, 128, 6)


@pytest.fixture(scope='module')
def demo():
    """The tiny CLIP with its own twelve classes; not to be changed."""
    return SCLIPInferencer(config='sclip_demo', device='cpu')


@pytest.fixture(scope='module')
def photo(tmp_path_factory, recipe):
    path = tmp_path_factory.mktemp('photo') / 'photo.jpg'
    Image.fromarray(recipe.image(5, 90, 130)).save(path, quality=95)
    return path


@pytest.fixture(scope='module')
def own(mini_clip):
    """The mini CLIP with words of our own; not to be changed."""
    return SCLIPInferencer(CLASSES, 'auto', **mini_clip, device='cpu', cfg_options=OPTIONS)


def evaluated(config, path):
    """The sample that MMSegmentation's own functions get from a config."""
    config.model.test_cfg.keep_scores = True
    return inference_model(init_model(config, device='cpu'), str(path))


@pytest.fixture(scope='module')
def by_config(tmp_path_factory, mini_clip, photo):
    """The words of `own` in a config and a vocabulary file, as a user of the evaluation would write them."""
    words = tmp_path_factory.mktemp('words') / 'words.txt'
    words.write_text(f'{BACKGROUND}\ncat\ncouch, Bed\nremote control\nкошка 猫\n', encoding='utf-8')
    config = load_config('sclip_voc21')
    config.model.clip = dict(mini_clip)
    config.model.decode_head.update(vocabulary=str(words), class_names=None, templates='simple')
    return evaluated(config, photo)


def test_the_code_path_of_the_evaluation(own, by_config, photo):
    result = own(photo, return_scores=True)
    labels = by_config.pred_sem_seg.data[0].numpy()
    assert len(np.unique(labels)) >= 3  # else equal labels mean little
    np.testing.assert_array_equal(result['labels'], labels)
    np.testing.assert_array_equal(result['scores'], by_config.seg_logits.data.numpy())
    assert result['labels'].dtype == np.uint8 and result['scores'].dtype == np.float32
    assert result['image'] == str(photo)
    assert result['names'] == ['background', 'cat', 'couch', 'remote control', 'кошка 猫']
    assert result['phrases'] == [BACKGROUND.split(', '), ['cat'], ['couch', 'Bed'], ['remote control'], ['кошка 猫']]
    assert result['coverage'] == pytest.approx([100 * (labels == label).mean() for label in range(5)], rel=1e-12)
    assert sum(result['coverage']) == pytest.approx(100)
    assert result['colours'] == distinct_colours(5, background=True)
    assert 'scores' not in own(photo) and 'files' not in result


def test_without_background_there_are_no_thresholds(mini_clip, photo):
    config = load_config('sclip_voc20')
    config.model.clip = dict(mini_clip)
    config.model.decode_head.update(vocabulary=['cat', ['couch', 'Bed']], class_names=None, templates='simple')
    sample = evaluated(config, photo)
    plain = SCLIPInferencer(CLASSES[:2], None, **mini_clip, device='cpu', cfg_options=OPTIONS)
    result = plain(str(photo), return_scores=True)
    np.testing.assert_array_equal(result['scores'], sample.seg_logits.data.numpy())
    np.testing.assert_array_equal(result['labels'], result['scores'].argmax(axis=0))
    assert result['names'] == ['cat', 'couch'] and result['colours'] == distinct_colours(2)


def test_settings_are_those_of_the_configs(own, mini_clip):
    def settings(inferencer):
        return [inferencer.model.test_cfg[key] for key in ('logit_scale', 'prob_thd', 'area_thd')]

    def build(**more):
        return settings(SCLIPInferencer(['cat'], device='cpu', **more))

    assert settings(own) == [65, 0.1, 0.1]
    assert build(background=None, **mini_clip) == [40, None, None]
    assert build(cfg_options={'model.test_cfg.area_thd': None}, **mini_clip) == [65, 0.1, None]
    assert build(config='sclip_demo') == [65, 0.1, 0.1]  # has none of its own
    assert build(config='sclip_demo', cfg_options={'model.test_cfg.prob_thd': 0.3}) == [65, 0.3, 0.1]
    assert build(config='sclip_context60', **mini_clip) == [50, 0.1, None]
    assert build(config='sclip_voc21', background=None, **mini_clip) == [65, None, None]


def test_attention_and_pamr(mini_clip, photo, own):
    config = load_config('baselines/clip_voc20')
    config.model.clip = dict(mini_clip)
    config.model.decode_head.update(vocabulary=['cat', 'dog'], class_names=None, templates='simple')
    config.model.test_cfg.pamr.steps = 2
    wanted = evaluated(config, photo).seg_logits.data.numpy()

    def scores(**more):
        inferencer = SCLIPInferencer(['cat', 'dog'], None, **mini_clip, device='cpu', cfg_options=OPTIONS, **more)
        return inferencer(photo, return_scores=True)['scores']

    np.testing.assert_array_equal(scores(attention='VanillaSelfAttention', pamr=2), wanted)
    np.testing.assert_array_equal(scores(attention=dict(type='VanillaSelfAttention'), pamr=2), wanted)
    for others in (dict(attention='VanillaSelfAttention'), dict(pamr=2)):
        assert np.abs(scores(**others) - wanted).max() > 1e-4


def test_classes_of_a_config(demo, painted, tmp_path, mini_clip):
    path = tmp_path / 'scene.png'
    Image.fromarray(painted.image).save(path)
    result = demo(path)
    sample = evaluated(load_config('sclip_demo'), path)
    np.testing.assert_array_equal(result['labels'], sample.pred_sem_seg.data[0].numpy())
    assert (result['labels'] == painted.label).mean() > 0.8
    assert result['names'][:3] == ['grass', 'water', 'sand'] and len(result['names']) == 12
    assert result['colours'][1] == (40, 110, 175)  # the demo's dataset says it
    voc = SCLIPInferencer(config='sclip_voc21', **mini_clip, device='cpu', cfg_options=OPTIONS)
    result = voc(path)
    assert result['names'][:2] == ['background', 'aeroplane'] and len(result['phrases'][0]) == 26
    assert result['colours'][:2] == [(0, 0, 0), (128, 0, 0)]
    assert voc(path, classes=['cat'])['names'] == ['background', 'cat']
    assert demo(path, classes=['lava'])['names'] == ['lava']


def test_arrays(demo, painted, tmp_path):
    path = tmp_path / 'scene.png'
    Image.fromarray(painted.image).save(path)
    wanted = demo(path)
    for given, order in (
        (painted.image, 'rgb'),
        (painted.image[..., ::-1], 'bgr'),
        (painted.image.astype(np.uint16) * 257, 'rgb'),
        (Image.fromarray(painted.image), None),
    ):
        result = demo(given, channel_order=order)
        np.testing.assert_array_equal(result['labels'], wanted['labels'])
        assert result['image'] is None
    assert (demo(painted.image, channel_order='bgr')['labels'] != wanted['labels']).mean() > 0.05
    with pytest.raises(ValueError, match='channel_order'):
        demo(painted.image)
    said = SCLIPInferencer(config='sclip_demo', channel_order='bgr', device='cpu')
    both = said([painted.image[..., ::-1], str(path)])
    assert [result['image'] for result in both] == [None, str(path)]
    for result in both:
        np.testing.assert_array_equal(result['labels'], wanted['labels'])


def test_photographs_are_upright(demo, painted, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = painted.image[:100]
    Image.fromarray(lying).save(tmp_path / 'lying.png', exif=exif)
    result = demo(tmp_path / 'lying.png')
    assert result['labels'].shape == (128, 100)
    wanted = demo(np.ascontiguousarray(np.rot90(lying, -1)), channel_order='rgb')
    np.testing.assert_array_equal(result['labels'], wanted['labels'])


def test_words_change_from_call_to_call(mini_clip, photo, tmp_path, fresh_cache):
    """Also when the weights are gone: the text tower is kept."""
    weights = tmp_path / 'mini.pt'
    shutil.copy(mini_clip['pretrained'], weights)
    clip = dict(model_name=mini_clip['model_name'], pretrained=str(weights))
    inferencer = SCLIPInferencer(['cat', 'dog'], None, **clip, device='cpu', cfg_options=OPTIONS)
    first = inferencer(photo, return_scores=True)
    weights.unlink()
    other = inferencer(photo, return_scores=True, classes=['猫', ['γάτα', 'σκύλος'], 'dog'])
    fresh = SCLIPInferencer(['猫', ['γάτα', 'σκύλος'], 'dog'], None, **mini_clip, device='cpu', cfg_options=OPTIONS)
    # Words that are encoded together with others differ by rounding.
    np.testing.assert_allclose(other['scores'], fresh(photo, return_scores=True)['scores'], atol=1e-5)
    assert other['names'] == ['猫', 'γάτα', 'dog'] and len(other['colours']) == 3
    again = inferencer(photo, return_scores=True)
    np.testing.assert_array_equal(again['scores'], first['scores'])
    assert again['names'] == ['cat', 'dog']


def test_the_same_words_are_not_encoded_again(demo, painted):
    head = demo.model.decode_head
    demo(painted.image, channel_order='rgb')
    bank = head.text_bank
    demo(painted.image, channel_order='rgb', classes=list(demo.words.names))
    assert head.text_bank is bank


def test_files(own, photo, tmp_path):
    out = tmp_path / 'new' / 'out'
    result = own(photo, out_dir=out)
    assert sorted(path.name for path in out.iterdir()) == ['photo.png', 'photo_overlay.png', 'summary.json']
    assert result['files'] == dict(labels='photo.png', overlay='photo_overlay.png')
    written = Image.open(out / 'photo.png')
    assert written.mode == 'P'
    np.testing.assert_array_equal(np.asarray(written), result['labels'])
    colours = np.array(result['colours'])
    np.testing.assert_array_equal(np.asarray(written.convert('RGB')), colours[result['labels']])

    overlay = np.asarray(Image.open(out / 'photo_overlay.png')).astype(int)
    height, width = result['labels'].shape
    shown = cv2.imread(str(photo))[..., ::-1]
    np.testing.assert_allclose(overlay[:height, :width], (shown + colours[result['labels']]) / 2, atol=0.5)
    beside = overlay[:, width:]
    for label, colour in enumerate(result['colours'][1:], 1):  # black is in the text too
        assert ((beside == colour).all(axis=-1).sum() > 100) == (label in result['labels'])

    (summary,) = json.loads((out / 'summary.json').read_text(encoding='utf-8'))
    assert summary['image'] == str(photo) and summary['size'] == [width, height]
    assert [entry['name'] for entry in summary['classes']] == result['names']
    assert [entry['phrases'] for entry in summary['classes']] == result['phrases']
    assert [entry['coverage'] for entry in summary['classes']] == result['coverage']
    assert [tuple(entry['colour']) for entry in summary['classes']] == result['colours']
    assert any(entry['coverage'] == 0 for entry in summary['classes'])
    assert summary['files'] == result['files']


def test_the_legend_has_the_names(own, photo, tmp_path, monkeypatch):
    asked = []

    def spy(picture, names, palette, present):
        asked.append((names, present))
        return original(picture, names, palette, present)

    original = writing.with_legend
    monkeypatch.setattr(writing, 'with_legend', spy)
    result = own(photo, out_dir=tmp_path)
    assert asked == [(result['names'], sorted(set(result['labels'].ravel().tolist())))]


def test_heat_maps(own, photo, tmp_path):
    before = own(photo, return_scores=True)
    result = own(photo, out_dir=tmp_path, heatmaps=True)
    np.testing.assert_array_equal(result['labels'], before['labels'])
    np.testing.assert_array_equal(own(photo, return_scores=True)['scores'], before['scores'])
    phrases = [phrase for group in result['phrases'] for phrase in group]
    assert list(result['files']['heatmaps']) == phrases and len(phrases) == 25 + 5
    names = [f'photo_heat_{number}.png' for number in range(1, 31)]
    assert list(result['files']['heatmaps'].values()) == names
    assert {path.name for path in tmp_path.glob('*_heat_*')} == set(names)


def test_heat_is_the_probability_of_the_phrase(own, photo, monkeypatch, tmp_path):
    kept = []
    original = ResultWriter.write

    def write(self, result, image, heat):
        kept.append((image, heat))
        return original(self, result, image, heat)

    monkeypatch.setattr(ResultWriter, 'write', write)
    scores = own(photo, return_scores=True, out_dir=tmp_path, heatmaps=True)['scores']
    ((image, heat),) = kept
    np.testing.assert_allclose(heat.sum(axis=0), 1, atol=1e-5)
    small = scores == 0  # suppressed by the area threshold
    groups = np.stack([heat[:25].max(axis=0), heat[25], heat[26:28].max(axis=0), heat[28], heat[29]])
    np.testing.assert_allclose(groups[~small], scores[~small], atol=1e-6)

    for number in (1, 27):
        picture = np.asarray(Image.open(tmp_path / f'photo_heat_{number}.png'))[: image.shape[0], : image.shape[1]]
        colours = 255 * colormaps['turbo'](heat[number - 1])[..., :3]
        np.testing.assert_allclose(picture, 0.4 * image + 0.6 * colours, atol=2)


def test_stems_that_repeat_and_inputs_that_stay(demo, painted, tmp_path):
    picture = Image.fromarray(painted.image[:64, :64])
    for name in ('a.png', 'a.jpg', 'A.bmp', 'a_overlay.png', 'sub/a.png'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        picture.save(tmp_path / name)
    before = (tmp_path / 'a.png').read_bytes(), (tmp_path / 'a_overlay.png').read_bytes()
    inputs = [tmp_path / name for name in ('a.png', 'a.jpg', 'A.bmp', 'a_overlay.png', 'sub/a.png')]
    results = demo([*map(str, inputs), painted.image, painted.image], out_dir=tmp_path, channel_order='rgb')
    assert ((tmp_path / 'a.png').read_bytes(), (tmp_path / 'a_overlay.png').read_bytes()) == before
    written = [name.lower() for result in results for name in result['files'].values()]
    assert len(written) == len(set(written)) == 14
    assert [result['files']['labels'] for result in results] == [
        'a-2.png',
        'a-3.png',
        'A-4.png',
        'a_overlay-2.png',
        'a-5.png',
        'array.png',
        'array-2.png',
    ]
    summary = json.loads((tmp_path / 'summary.json').read_text())
    assert [entry['image'] for entry in summary] == [*map(str, inputs), None, None]
    for entry, result in zip(summary, results, strict=True):
        labels = np.asarray(Image.open(tmp_path / entry['files']['labels']))
        np.testing.assert_array_equal(labels, result['labels'])


def test_nothing_of_the_user_is_written_over(demo, painted, tmp_path):
    picture = Image.fromarray(painted.image[:64, :64])
    picture.save(tmp_path / 'a.jpg')
    picture.save(tmp_path / 'a.png')
    (tmp_path / 'a-2_overlay.png').write_text('mine')
    before = (tmp_path / 'a.png').read_bytes()
    for _ in range(2):  # but what the first run wrote, the second may
        assert demo(tmp_path / 'a.jpg', out_dir=tmp_path)['files']['labels'] == 'a-3.png'
    assert (tmp_path / 'a.png').read_bytes() == before and (tmp_path / 'a-2_overlay.png').read_text() == 'mine'
    (tmp_path / 'a-2_overlay.png').unlink()
    results = demo(tmp_path.as_posix() + '/a*', out_dir=tmp_path / 'out')
    assert len(results) == 2  # no label map and no overlay is taken for a picture
    other = tmp_path / 'other'
    other.mkdir()
    (other / 'summary.json').write_text('{"mine": 1}')
    with pytest.raises(FileExistsError, match='no summary of segmented pictures'):
        demo(tmp_path / 'a.jpg', out_dir=other)
    assert [path.name for path in other.iterdir()] == ['summary.json']


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
    with pytest.raises(OSError, match=r'1\.jpg is damaged'):
        demo(folder, out_dir=tmp_path / 'first')
    assert listed(tmp_path / 'first') == ['0.jpg']
    errors = []
    out = tmp_path / 'second'
    results = list(demo.stream(folder, out, on_error=lambda picture, error: errors.append((picture, str(error)))))
    assert [result['labels'].shape for result in results] == [(70, 60), (70, 62)]
    assert len(errors) == 1 and errors[0][0] == str(folder / '1.jpg') and '1.jpg is damaged' in errors[0][1]
    assert listed(out) == ['0.jpg', '2.jpg']


def test_the_summary_is_there_when_one_stops_early(demo, folder, tmp_path):
    stream = demo.stream([folder / '0.jpg', folder / '2.jpg'], tmp_path / 'out')
    next(stream)
    stream.close()
    assert listed(tmp_path / 'out') == ['0.jpg']


def test_one_or_many(demo, folder):
    one = demo(str(folder / '0.jpg'))
    assert isinstance(one, dict)
    for given in ([str(folder / '0.jpg')], str(folder / '[0]*.jpg')):
        (result,) = demo(given)
        np.testing.assert_array_equal(result['labels'], one['labels'])


def test_pictures_of_a_pixel_and_of_a_line(own):
    def segment(*shape):
        return own(np.full((*shape, 3), 90, np.uint8), channel_order='rgb')['labels'].shape

    assert segment(1, 1) == (1, 1) and segment(3, 60) == (3, 60)
    with pytest.raises(ValueError, match='The array .*patch'):  # 7 pixels high when it is 2048 wide
        segment(1, 300)


def test_very_many_classes(demo, painted, tmp_path):
    names = [f'thing {number}' for number in range(256)]
    result = demo(painted.image[:64, :64], channel_order='rgb', classes=names)
    assert result['labels'].dtype == np.uint16 and len(result['coverage']) == 256
    with pytest.raises(ValueError, match='256 classes.*at most 255'):
        demo(painted.image, channel_order='rgb', classes=names, out_dir=tmp_path)


def test_no_cityscapes_and_no_warnings(recwarn, caplog):
    """What MMSegmentation's inferencer does to a model without a checkpoint, and MMEngine's to its collate."""
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    inferencer = SCLIPInferencer(['lava', 'snow'], None, config='sclip_demo', device='cpu')
    logger.removeHandler(caplog.handler)
    assert inferencer.model.dataset_meta['classes'] == ['lava', 'snow']
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert not recwarn.list


@pytest.mark.parametrize(
    'arguments, message',
    [
        (dict(), 'Give classes'),
        (dict(classes=['a', 'a']), 'twice'),
        (dict(classes=['cat'], attention='Vanila'), 'Vanila'),
        (dict(classes=['cat'], pamr=1.5), 'pamr.steps'),
        (dict(config='sclip_demo', background=None), 'belongs to classes of your own'),
        (dict(classes=['cat'], config='sclip_demo', cfg_options={'modle.x': 1}), "no 'modle'"),
        (dict(classes=['cat ' * 100], config='sclip_demo'), 'longer than'),
    ],
)
def test_wrong_arguments(arguments, message, mini_clip):
    clip = {} if 'config' in arguments else mini_clip
    with pytest.raises(ValueError, match=message):
        SCLIPInferencer(**arguments, **clip, device='cpu')


def test_wrong_words_in_a_call_spoil_no_later_one(demo, painted):
    before = demo(painted.image, channel_order='rgb')
    for wrong in (['lava', 'x ' * 100], ['lava', 'Lava']):
        with pytest.raises(ValueError, match='longer than|twice'):
            demo(painted.image, channel_order='rgb', classes=wrong)
        np.testing.assert_array_equal(demo(painted.image, channel_order='rgb')['labels'], before['labels'])


def test_wrong_calls(demo, painted, tmp_path):
    with pytest.raises(ValueError, match='out_dir'):
        demo(painted.image, channel_order='rgb', heatmaps=True)
    with pytest.raises(FileNotFoundError, match='none.jpg'):
        demo(tmp_path / 'none.jpg')
    (tmp_path / 'file').touch()
    with pytest.raises(OSError, match='Cannot write .*file'):
        demo(painted.image, channel_order='rgb', out_dir=tmp_path / 'file')
    with pytest.raises(FileNotFoundError, match='sclip_dmo'):
        SCLIPInferencer(config='sclip_dmo')


def test_a_device(painted, device, demo):
    there = SCLIPInferencer(config='sclip_demo', device=str(device))
    assert next(there.model.parameters()).device.type == torch.device(device).type
    agree = there(painted.image, channel_order='rgb')['labels'] == demo(painted.image, channel_order='rgb')['labels']
    assert agree.mean() > 0.99
