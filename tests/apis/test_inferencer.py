"""Against MMSegmentation's `init_model` and `inference_model` on configs that say the same."""

import json
import logging
import shutil
import threading

import numpy as np
import pytest
import torch
from matplotlib import colormaps
from mmengine.logging import MMLogger
from mmseg.apis import inference_model, init_model
from PIL import Image

from mmseg_sclip.apis import SCLIPInferencer, writing
from mmseg_sclip.apis.settings import build_config
from mmseg_sclip.config import load_config
from mmseg_sclip.datasets.palette import distinct_palette
from mmseg_sclip.datasets.scenes import scene
from mmseg_sclip.files import is_ours

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
    assert result['colours'] == distinct_palette(5, background_index=0)
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
    assert result['names'] == ['cat', 'couch'] and result['colours'] == distinct_palette(2)


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
    config = load_config('clip_voc20')
    config.model.clip = dict(mini_clip)
    config.model.decode_head.update(vocabulary=['cat', 'dog'], class_names=None, templates='simple')
    config.model.test_cfg.refine = [dict(type='PAMR', steps=2)]
    wanted = evaluated(config, photo).seg_logits.data.numpy()

    def scores(**more):
        inferencer = SCLIPInferencer(['cat', 'dog'], None, **mini_clip, device='cpu', cfg_options=OPTIONS, **more)
        return inferencer(photo, return_scores=True)['scores']

    for name in ('VanillaSelfAttention', 'clip'):
        np.testing.assert_array_equal(scores(attention=name, pamr=2), wanted)
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


def test_the_same_words_are_not_encoded_again(demo, painted, monkeypatch):
    encoder, asked = demo.model.decode_head.text_encoder, []
    encode = encoder.encode
    monkeypatch.setattr(encoder, 'encode', lambda words, *args: asked.append(words) or encode(words, *args))
    for more in ({}, dict(classes=list(demo.words.class_names)), dict(return_scores=True), dict(heatmaps=True)):
        demo(painted.image, channel_order='rgb', **more)
    assert not asked
    demo(painted.image, channel_order='rgb', classes=['lava', 'snow'])
    assert asked == [('lava', 'snow')]


@pytest.mark.parametrize('nothing', [None, 'none', 'None'])
def test_the_background_changes_from_call_to_call(own, mini_clip, photo, nothing):
    """As in an inferencer that was made so, thresholds and logit scale included."""
    before = own(photo, return_scores=True)
    for background in (nothing, ['wall', 'sky'], 'auto'):
        result = own(photo, return_scores=True, background=background)
        fresh = SCLIPInferencer(CLASSES, background, **mini_clip, device='cpu', cfg_options=OPTIONS)
        wanted = fresh(photo, return_scores=True)
        np.testing.assert_array_equal(result['labels'], wanted['labels'])
        np.testing.assert_allclose(result['scores'], wanted['scores'], atol=1e-5)
        assert result['names'] == wanted['names'] and result['colours'] == wanted['colours']
    other = own(photo, classes=['cat'], background=nothing)
    assert other['names'] == ['cat'] and own(photo, classes=['cat'])['names'] == ['background', 'cat']
    np.testing.assert_array_equal(own(photo, return_scores=True)['scores'], before['scores'])


@pytest.mark.slow
def test_two_threads_with_different_words(own, demo, photo, painted, tmp_path):
    """Each gets what it would get alone, files included."""
    wishes = [
        dict(classes=['cat', ['couch', 'Bed']], return_scores=True, heatmaps=True),
        dict(classes=['snow', 'sky', 'dog'], background=None, return_scores=True),
    ]
    alone = [own(photo, **wish) for wish in wishes]
    results = [[], []]
    start = threading.Barrier(2)

    def work(which):
        start.wait()
        for turn in range(4):
            out = tmp_path / f'{which}-{turn}' if turn == 1 else None
            results[which].append(own(photo, out_dir=out, **wishes[which]))

    threads = [threading.Thread(target=work, args=(which,)) for which in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for found, wanted in zip(results, alone, strict=True):
        assert len(found) == 4
        for result in found:
            assert result['names'] == wanted['names'] and result['coverage'] == wanted['coverage']
            for key in ('labels', 'scores', 'heatmaps'):
                if key in wanted:
                    np.testing.assert_array_equal(result[key], wanted[key])
    assert own.model.dataset_meta['classes'] == list(own.words.class_names)
    assert {path.name for path in tmp_path.iterdir()} == {'0-1', '1-1'}


def test_files(own, photo, tmp_path):
    out = tmp_path / 'new' / 'out'
    result = own(photo, out_dir=out)
    assert sorted(path.name for path in out.iterdir()) == ['photo.png', 'photo_overlay.png', 'summary.json']
    assert result['files'] == dict(labels='photo.png', overlay='photo_overlay.png')
    written = Image.open(out / 'photo.png')
    assert written.mode == 'P' and is_ours(out / 'photo.png') and is_ours(out / 'photo_overlay.png')
    np.testing.assert_array_equal(np.asarray(written), result['labels'])
    colours = np.array(result['colours'])
    np.testing.assert_array_equal(np.asarray(written.convert('RGB')), colours[result['labels']])

    overlay = np.asarray(Image.open(out / 'photo_overlay.png').convert('RGB')).astype(int)
    for label, colour in enumerate(result['colours'][1:], 1):  # the legend's fields; black is in the text too
        assert ((overlay == colour).all(axis=-1).sum() > 50) == (label in result['labels'])

    height, width = result['labels'].shape
    (summary,) = json.loads((out / 'summary.json').read_text(encoding='utf-8'))
    assert summary['image'] == str(photo) and summary['size'] == [width, height]
    assert [entry['name'] for entry in summary['classes']] == result['names']
    assert [entry['phrases'] for entry in summary['classes']] == result['phrases']
    assert [entry['coverage'] for entry in summary['classes']] == result['coverage']
    assert [tuple(entry['colour']) for entry in summary['classes']] == result['colours']
    assert any(entry['coverage'] == 0 for entry in summary['classes'])
    assert summary['files'] == result['files']


def test_heat_is_the_probability_of_the_phrase(own, photo, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(writing, 'draw', lambda rows, **more: drawn.append((rows[0][0], more)) or draw(rows, **more))
    from mmseg_sclip.visual.figure import draw

    forwards = []
    handle = own.model.backbone.tower.block(1).register_forward_hook(lambda *_: forwards.append(1))
    plain = own(photo, return_scores=True)
    assert len(forwards) == 1
    result = own(photo, return_scores=True, heatmaps=True)
    handle.remove()
    assert len(forwards) == 2, 'heat takes no forward of its own'
    heat, scores = result['heatmaps'], result['scores']
    np.testing.assert_array_equal(scores, plain['scores'])
    np.testing.assert_array_equal(result['labels'], plain['labels'])
    assert heat.shape == (30, *result['labels'].shape) and heat.dtype == np.float32 and 'heatmaps' not in plain
    np.testing.assert_allclose(heat.sum(axis=0), 1, atol=1e-5)
    small = scores == 0  # suppressed by the area threshold
    groups = np.stack([heat[:25].max(axis=0), heat[25], heat[26:28].max(axis=0), heat[28], heat[29]])
    np.testing.assert_allclose(groups[~small], scores[~small], atol=1e-6)

    result = own(photo, out_dir=tmp_path, heatmaps=True, classes=['cat', ['couch', 'Bed']], background=None)
    names = ['photo_heat_1.png', 'photo_heat_2.png', 'photo_heat_3.png']
    assert result['files']['heatmaps'] == dict(zip(['cat', 'couch', 'Bed'], names, strict=True))
    assert {path.name for path in tmp_path.glob('*_heat_*')} == set(names)
    rgb = np.asarray(Image.open(photo)).astype(float)
    for (panel, more), phrase, heat in zip(drawn, ['cat', 'couch', 'Bed'], result['heatmaps'], strict=True):
        assert panel.title == phrase and more['scale'] == 'probability'
        np.testing.assert_allclose(panel.picture, 0.4 * rgb + 0.6 * 255 * colormaps['turbo'](heat)[..., :3], atol=6)


def test_the_attention_of_an_inner_and_of_the_default_decoder(tmp_path):
    config = build_config(None, 'freecp_sclip_demo', attention='CLIP')
    assert config.model.backbone.decoder.decoder.attention == dict(type='VanillaSelfAttention')
    own = load_config('sclip_demo')
    del own.model.backbone['decoder']
    own.dump(tmp_path / 'own.py')
    decoder = build_config(None, tmp_path / 'own.py', attention='CLIP').model.backbone.decoder
    assert (decoder.type, decoder.attention.type) == ('LastBlock', 'VanillaSelfAttention')


FOREGROUND_ONLY = {
    'model.test_cfg.refine': [dict(type='ForegroundOnly')],
    'model.test_cfg.logit_scale': 100,
    'model.test_cfg.prob_thd': 0.5,
}


@pytest.mark.parametrize(
    'config, options', [('freecp_sclip_demo', None), ('cliper_demo', None), ('gem_demo', FOREGROUND_ONLY)]
)
def test_heat_of_the_background_is_what_labels_come_from(painted, config, options):
    segment = SCLIPInferencer(
        ['grass', 'water', 'sand'], ['brick', 'wood'], config=config, device='cpu', cfg_options=options
    )
    result = segment(painted.image, heatmaps=True, return_scores=True, channel_order='rgb')
    heat, scores = result['heatmaps'], result['scores']
    wanted = np.concatenate([heat[:2].max(axis=0, keepdims=True), heat[2:]])
    kept = scores.any(axis=(1, 2))  # by the area threshold
    assert heat.shape[0] == 5 and kept.any()
    np.testing.assert_allclose(wanted[kept], scores[kept], atol=1e-6)


def test_heat_of_a_phrase_of_two_classes(demo, painted, tmp_path):
    result = demo(painted.image[:64, :64], heatmaps=True, channel_order='rgb')
    result.update(phrases=[['brick', 'grass'], ['water'], ['grass']], heatmaps=result['heatmaps'][:4])
    for key in ('names', 'colours', 'coverage'):
        result[key] = result[key][:3]
    result['labels'][:] = 0
    files = writing.ResultWriter(tmp_path).write(result, painted.image[:64, :64])['heatmaps']
    assert list(files) == ['brick', 'grass (2)', 'water', 'grass (4)']
    assert set(files.values()) == {path.name for path in tmp_path.glob('*_heat_*')}


def test_stems_that_repeat(demo, painted, tmp_path):
    picture = Image.fromarray(painted.image[:64, :64])
    inputs = [tmp_path / name for name in ('in/a.png', 'in/a.jpg', 'in/A.bmp', 'in/a_overlay.png', 'in/sub/a.png')]
    for path in inputs:
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
    out = tmp_path / 'out'
    for _ in range(2):  # a second run replaces the files of the first
        results = demo([*map(str, inputs), painted.image, painted.image], out_dir=out, channel_order='rgb')
        written = [name.lower() for result in results for name in result['files'].values()]
        assert len(written) == len(set(written)) == 14 and len(list(out.iterdir())) == 15
        stems = [result['files']['labels'].removesuffix('.png') for result in results]
        assert stems == ['a', 'a-2', 'A-3', 'a_overlay-2', 'a-4', 'array', 'array-2']
    summary = json.loads((out / 'summary.json').read_text())
    assert [entry['image'] for entry in summary] == [*map(str, inputs), None, None]
    for entry, result in zip(summary, results, strict=True):
        labels = np.asarray(Image.open(out / entry['files']['labels']))
        np.testing.assert_array_equal(labels, result['labels'])


def test_nothing_of_the_user_is_written_over(demo, painted, tmp_path):
    photos, out = tmp_path / 'photos', tmp_path / 'out'
    photos.mkdir()
    out.mkdir()
    Image.fromarray(painted.image[:64, :64]).save(photos / 'a.png')
    (tmp_path / 'link').symlink_to(photos)
    for folder in (photos, tmp_path / 'link', out / '..' / 'photos'):
        with pytest.raises(OSError, match='name another folder'):
            demo(photos / 'a.png', out_dir=folder)
    assert [path.name for path in photos.iterdir()] == ['a.png']
    (out / 'a_overlay.png').write_text('mine')
    for _ in range(2):  # but what the first run wrote, the second may
        assert demo(photos / 'a.png', out_dir=out)['files']['labels'] == 'a-2.png'
    assert (out / 'a_overlay.png').read_text() == 'mine'
    (out / 'a_overlay.png').unlink()
    with pytest.raises(FileNotFoundError, match='holds no picture and 3 other files'):
        demo(out, out_dir=tmp_path / 'again')  # no label map and no overlay is taken for a picture
    (out / 'summary.json').write_text('{"mine": 1}')
    with pytest.raises(OSError, match='no summary of segmented pictures'):
        demo(photos / 'a.png', out_dir=out)
    assert (out / 'summary.json').read_text() == '{"mine": 1}'


def test_a_full_disk_names_the_output(demo, painted, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(Image.Image, 'save', full)
    with pytest.raises(OSError, match=r'Cannot write .*array.png \(out_dir\): No space left.*Free some space'):
        demo(painted.image, channel_order='rgb', out_dir=tmp_path / 'out')
    assert not list((tmp_path / 'out').iterdir())


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
        (dict(classes=['cat'], attention='MaskClp'), "Did you mean 'MaskCLIP'"),
        (dict(classes=['cat'], pamr=1.5), 'PAMR.steps is 1.5'),
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
    with pytest.raises(ValueError, match='belongs to classes of your own'):
        demo(painted.image, channel_order='rgb', background=None)
    with pytest.raises(FileNotFoundError, match='none.jpg'):
        demo(tmp_path / 'none.jpg')
    (tmp_path / 'file').touch()
    with pytest.raises(OSError, match='out_dir .*file must be a folder'):
        demo(painted.image, channel_order='rgb', out_dir=tmp_path / 'file')
    with pytest.raises(FileNotFoundError, match='sclip_dmo'):
        SCLIPInferencer(config='sclip_dmo')


def test_a_device(painted, device, demo):
    there = SCLIPInferencer(config='sclip_demo', device=str(device))
    assert next(there.model.parameters()).device.type == torch.device(device).type
    agree = there(painted.image, channel_order='rgb')['labels'] == demo(painted.image, channel_order='rgb')['labels']
    assert agree.mean() > 0.99
