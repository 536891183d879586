"""The segmentor: what goes into it and comes out of it, its settings, its words, and several in one pass."""

import pytest
import torch
from helpers import WORDS, build, sample
from mmengine.runner.checkpoint import load_state_dict
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from torch.nn import functional as F

from mmseg_sclip.errors import BadFileError, ConfigError
from mmseg_sclip.models import CLIPDataPreProcessor
from mmseg_sclip.models.image.postprocess import best_of_class
from mmseg_sclip.models.image.scores import whole
from mmseg_sclip.models.refinements import PAMR


@pytest.fixture
def images():
    torch.manual_seed(0)
    return [torch.randn(3, 97, 130), torch.randn(3, 64, 64), torch.randn(3, 40, 150)]


@torch.no_grad()
def labels(model, image, shape=None):
    return model.predict([image], shape and [sample(shape)])[0].pred_sem_seg.data


@pytest.mark.parametrize('crop, stride', [((64, 64), (32, 32)), ((48, 80), (16, 48)), ((80, 48), (64, 16))], ids=str)
@torch.no_grad()
def test_batched_windows_equal_mmsegmentations_sequential_loop(source, images, crop, stride):
    model = build(source, window_batch=3, crop_size=crop, stride=stride)
    samples = [sample(image.shape[1:]) for image in images]
    for image, ours in zip(images, model.score(images, samples), strict=True):
        theirs = model.slide_inference(image[None], [dict(ori_shape=image.shape[1:])])[0]
        torch.testing.assert_close(whole(ours), theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize('mode', ['slide', 'whole'])
@torch.no_grad()
def test_windows_are_padded_with_the_mean_colour_which_is_cut_off_again(source, mode):
    model, image = (
        build(source, window_multiple=40, crop_size=(64, 64), stride=(40, 40), mode=mode),
        torch.randn(3, 70, 75),
    )
    rows, columns = ([(0, 64), (6, 70)], [(0, 64), (11, 75)]) if mode == 'slide' else ([(0, 70)], [(0, 75)])
    total, counts = torch.zeros(model.out_channels, 70, 75), torch.zeros(70, 75)
    for top, bottom in rows:
        for left, right in columns:
            crop = torch.zeros(1, 3, 80, 80)  # 16, 10 and 5 pixels are missing
            above, before = (80 - bottom + top) // 2, (80 - right + left) // 2
            inside = (..., slice(above, above + bottom - top), slice(before, before + right - left))
            crop[inside] = image[:, top:bottom, left:right]
            scores = F.interpolate(model.decode_head(model.encode(crop)), (80, 80), mode='bilinear')
            total[:, top:bottom, left:right] += scores[inside][0]
            counts[top:bottom, left:right] += 1
    expected = F.interpolate((total / counts)[None], (50, 60), mode='bilinear')[0]
    (scores,) = model.score([image], [sample((50, 60))])
    torch.testing.assert_close(whole(scores), expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_tensor_and_list_and_no_samples_agree(source):
    model, batch = build(source), torch.randn(2, 3, 64, 96)
    from_tensor, from_list = model.predict(batch), model.predict(list(batch), [sample((64, 96)) for _ in batch])
    for first, second in zip(from_tensor, from_list, strict=True):
        assert torch.equal(first.pred_sem_seg.data, second.pred_sem_seg.data)
        assert 'seg_logits' not in first  # off by default: it fills memory
    (features,) = model.extract_feat(batch)
    assert features.shape == (2, 64, 4, 6) and torch.equal(features, model.backbone(batch)[0])
    listed = torch.cat([feature for (feature,) in model.extract_feat(list(batch))])
    torch.testing.assert_close(listed, features, atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.cat(model._forward(list(batch))), model._forward(batch), atol=1e-5, rtol=0)
    for shape in ((16, 16), (16, 40), (40, 16)):
        assert labels(model, torch.randn(3, *shape)).shape == (1, *shape)
    model.test_cfg.mode = 'whole'
    for how, size in (('direct', (50, 70)), ('input', (64, 96))):  # MMSegmentation's own whole mode
        model.test_cfg.whole_resize = how
        found = model.encode_decode(batch, [dict(ori_shape=(50, 70), img_shape=(64, 96))])
        torch.testing.assert_close(found, F.interpolate(model._forward(batch), size, mode='bilinear'))


@torch.no_grad()
def test_scores_stand_in_the_order_of_the_queries_and_a_tie_goes_to_the_first(source, images):
    model = build(source, head=dict(vocabulary=['dog', ['tree', 'bed'], 'bed', 'cat'], background_index=None))
    head, features = model.decode_head, torch.randn(2, 64, 3, 4)
    scores = head(features)
    assert torch.equal(scores, head((torch.randn(2, 64, 3, 4), features)))  # the last of a backbone's levels
    bank = head.text_bank
    for place, phrase in enumerate(['dog', 'tree', 'bed', 'bed', 'cat']):
        vector = bank[head.vocabulary.distinct.index(phrase)]
        cosine = torch.cosine_similarity(features, vector.view(1, -1, 1, 1), dim=1)
        torch.testing.assert_close(scores[:, place], cosine, atol=1e-5, rtol=0)
    assert torch.equal(scores[:, 2], scores[:, 3])
    assert torch.equal(head.distinct(scores), scores[:, [0, 1, 2, 4]])
    head.text_bank = bank.flip(0)  # any matrix may be set
    torch.testing.assert_close(head.distinct(head(features)), head.distinct(scores).flip(1))
    head.set_vocabulary([['tree', 'bed'], 'bed'])
    assert {labels(model, image).unique().item() for image in images} == {0}


@torch.no_grad()
def test_heads_and_labels_stay_in_float32_under_autocast(source, images):
    model = build(source, keep_scores=True)
    (scores,) = model.score(images[:1], [sample((301, 99))])
    expected, features = model.label(scores, images[0], sample((301, 99))), model.backbone(images[0][None])
    cosines = model.decode_head(features)
    with torch.autocast('cpu', torch.bfloat16):
        again = model.label(scores, images[0], sample((301, 99)))
        assert torch.equal(model.decode_head(features), cosines)
    assert torch.equal(again.seg_logits.data, expected.seg_logits.data)


@pytest.mark.parametrize(
    'change, words',
    [
        (dict(prob_thd=0.5), 'prob_thd is 0.5 but .*background_index is None'),
        (dict(area_thd=0), 'area_thd is 0 but .*background_index is None'),
        (dict(stride=(65, 65)), r'leaves pixels uncovered \(height\)'),
        (dict(stride=(64, 65)), r'leaves pixels uncovered \(width\)'),
        (dict(prob_th=0.5), "Unknown key 'prob_th' in model.test_cfg. Did you mean 'prob_thd'"),
        (dict(crop_size=(8, 64), stride=8), 'crop_size is .8, 64., smaller than a patch'),
        (dict(crop_size=64.0), 'crop_size is 64.0; it must be .height, width. in pixels'),
        (dict(crop_size=(0, 64)), 'crop_size is 0; it must be a whole number, at least 1'),
        (dict(mode='slid'), "mode is 'slid'; it must be one of 'slide', 'whole'"),
        (dict(window_batch=0), 'window_batch is 0; it must be a whole number, at least 1'),
        (dict(keep_scores='no'), 'keep_scores is .no.; it must be True or False'),
        (dict(logit_scale=0), 'logit_scale is 0; it must be a positive number'),
        (dict(logit_scale=None), 'logit_scale is None, but the scores of TextSimilarityHead are cosines'),
        (dict(refine=[dict(type='PAMR', steps=-1)]), 'PAMR.steps is -1'),
    ],
    ids=str,
)
def test_settings_are_checked_when_they_are_given_and_when_they_have_changed(source, change, words):
    head, image = dict(background_index=None), torch.randn(3, 40, 64)
    with pytest.raises(ConfigError, match=words):
        build(source, head=head, **change)
    model = build(source, head=head)
    before, expected = dict(model.test_cfg), labels(model, image)
    model.test_cfg.update(change)
    with pytest.raises(ConfigError, match=words):
        model.predict([image])
    model.test_cfg = before  # a plain dict
    assert torch.equal(labels(model, image), expected)


def test_settings_of_a_built_model_count_at_their_next_use(source):
    with pytest.raises(ConfigError, match="Did you mean 'mode'"):  # before any weights are read
        build(dict(model_name='/nowhere.json', pretrained='/nowhere.pt'), mod='whole')
    model, image = build(source, prob_thd=0, head=dict(background_index=None)), torch.randn(3, 64, 96)
    first = model.settings
    assert model.settings is first and first.crop_size == (64, 64) and model.test_cfg.logit_scale == 40
    model.test_cfg = dict(mode='whole', refine=[dict(type='PAMR', steps=1, dilations=[1])])  # the rest as ever
    assert torch.equal(labels(model, image), labels(build(source, **model.test_cfg), image))
    kept = model.refinements
    _ = model.settings
    assert model.refinements is kept and kept[0].dilations == (1,)
    model.test_cfg['refine'][0]['dilations'].append(2)
    assert model.settings.logit_scale == 40 and model.refinements[0].dilations == (1, 2)
    model.test_cfg['refine'] = [PAMR(steps=3)]
    assert model.settings.refine[0] is model.refinements[0]
    model.test_cfg.update(crop_size=96, stride=48)
    assert model.settings.crop_size == (96, 96)


def test_words_that_change(source, monkeypatch):
    model, image = build(source, prob_thd=0.1), torch.randn(3, 64, 64)
    before, words = labels(model, image), dict(vocabulary=['sky', 'sea'], background_index=1)
    expected = [labels(build(source, head=words, prob_thd=prob_thd), image) for prob_thd in (0.1, 0.6)]
    monkeypatch.setattr(type(source), 'image_tower', None)
    other = model.with_vocabulary(**words, prob_thd=0.6)
    assert other.backbone is model.backbone and torch.equal(labels(other, image), expected[1])
    assert torch.equal(labels(model, image), before)
    assert (model.num_classes, other.num_classes, model.test_cfg.prob_thd) == (3, 2, 0.1)
    other.test_cfg.mode = 'whole'
    assert (model.test_cfg.mode, model.settings.mode, other.settings.mode) == ('slide', 'slide', 'whole')
    model.set_vocabulary(**words, class_names=['SKY', 'SEA'])
    assert (model.num_classes, model.out_channels, model.dataset_meta['classes']) == (2, 2, ['SKY', 'SEA'])
    assert torch.equal(labels(model, image), expected[0])
    for use in (model.set_vocabulary, model.with_vocabulary):
        with pytest.raises(ConfigError, match='background_index is None'):
            use(['sky'])
    assert model.decode_head.vocabulary.num_classes == 2
    model.dataset_meta = dict(classes=('road', 'car'), palette=[[1, 2, 3]] * 2)  # as MMSegmentation's inferencer does
    assert model.dataset_meta['classes'] == ['SKY', 'SEA'] and model.dataset_meta['palette'][1] == [0, 0, 0]
    model.dataset_meta = dict(classes=('SKY', 'SEA'), palette=[[1, 2, 3]] * 2)
    assert model.dataset_meta['palette'] == [[1, 2, 3]] * 2


def test_the_loss_is_the_cross_entropy_of_class_scores(source):
    model, images, samples, each, right = build(source), [], [], [], []
    model.train_cfg = dict(logit_scale=10)
    for shape in ((64, 80), (48, 64)):
        images.append(torch.randn(3, *shape))
        samples.append(sample(shape))
        samples[-1].gt_sem_seg = PixelData(data=torch.randint(0, 3, (1, *shape)))
        samples[-1].gt_sem_seg.data[:, :5] = 255
    losses = model(images, samples, mode='loss')
    with torch.inference_mode():  # whose text bank serves gradients later
        model.decode_head.text_bank = None
        for image, one in zip(images, samples, strict=True):
            cosines, truth = model._forward(image[None]), one.gt_sem_seg.data[0]
            classes = best_of_class(
                (F.interpolate(cosines, truth.shape, mode='bilinear')[0] * 10).softmax(0), (2, 1, 1)
            )
            known = truth != 255
            each.append(-classes.gather(0, truth.clamp(max=2)[None])[0][known].log().mean())
            right.append(100 * (classes.argmax(0) == truth)[known].float().mean())
    torch.testing.assert_close(losses['decode.loss_ce'], sum(each) / 2)
    torch.testing.assert_close(losses['decode.acc_seg'], sum(right) / 2)
    features = torch.randn(2, 64, 2, 2, requires_grad=True)
    parts = (slice(0, 2), slice(0, 1), slice(1, 2))
    both, *alone = (model.decode_head.loss(features[part], samples[part], None)['loss_ce'] for part in parts)
    torch.testing.assert_close(both, sum(alone) / 2)
    both.backward()
    assert features.grad.abs().max() > 0


def test_everything_is_frozen_and_checkpoints_must_fit(source):
    model, key = build(source), 'backbone.tower.visual.class_embedding'
    assert not [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert not [name for name in model.state_dict() if 'token_embedding' in name or 'text_bank' in name]
    value = model.state_dict()[key].clone()
    load_state_dict(model, {key: value}, strict=True)  # strict, yet the rest of CLIP may be missing
    for state, kind, words in (
        (
            {'decode_head.conv_seg.weight': torch.zeros(1)},
            ConfigError,
            'no weight for this model: it holds decode_head',
        ),
        ({key: torch.zeros(64)}, ConfigError, r'another model: .* \(64,\) in it and \(128,\) here'),
        ({key: value * float('nan')}, BadFileError, f"The checkpoint cannot be used: its entry '{key}' holds NaN"),
    ):
        with pytest.raises(kind, match=words):
            load_state_dict(model, state)


def test_the_preprocessor_flips_and_normalises_without_padding_unless_it_is_mmsegmentations(source):
    small = torch.tensor([30, 20, 10], dtype=torch.uint8).view(3, 1, 1)  # blue 30, green 20, red 10
    own = CLIPDataPreProcessor(mean=(1, 2, 3), std=(2, 4, 5))
    data = own(dict(inputs=[small, torch.zeros(3, 4, 6, dtype=torch.uint8)]))
    assert [tuple(image.shape) for image in data['inputs']] == [(3, 1, 1), (3, 4, 6)]
    torch.testing.assert_close(data['inputs'][0].flatten(), torch.tensor([4.5, 4.5, 5.4]))
    rgb = CLIPDataPreProcessor((0, 0, 0), (1, 1, 1), bgr_to_rgb=False)(dict(inputs=small[None]))
    assert rgb['inputs'][0].flatten().tolist() == [30, 20, 10]
    for shape in ((1, 8, 8), (4, 8, 8), (8, 8)):
        with pytest.raises(ConfigError, match=r'must be \(3, H, W\)'):
            own(dict(inputs=[torch.zeros(shape)]))
    theirs = dict(type='SegDataPreProcessor', mean=[0] * 3, std=[1] * 3, size_divisor=32)
    model = build(source, data_preprocessor={**theirs, 'test_cfg': dict(size_divisor=32)}, mode='whole')
    data = dict(inputs=[torch.zeros(3, 80, 70)], data_samples=[sample((80, 70), img_shape=(80, 70))])
    with torch.no_grad():
        (padded,) = model.test_step(data)
    assert padded.img_padding_size == (0, 26, 0, 16) and padded.pred_sem_seg.data.shape == (1, 80, 70)


def test_an_image_that_is_too_small_or_flipped_in_an_unknown_way_is_named(source):
    model = build(source)
    with pytest.raises(BadFileError, match='some/file.jpg reaches the network with 8 x 64 pixels'):
        model.predict([torch.randn(3, 8, 64)], [sample((8, 64), img_path='some/file.jpg')])
    with pytest.raises(ConfigError, match="flip_direction is 'diagonal'"):
        model.predict([torch.randn(3, 64, 64)], [sample((64, 64), flip=True, flip_direction='diagonal')])


@torch.no_grad()
def test_methods_of_a_bundle_share_the_towers_that_are_the_same(mini_clip, mini_state, tmp_path, images):
    torch.save({**mini_state, 'visual.proj': 2 * mini_state['visual.proj']}, tmp_path / 'other.pt')
    method = dict(
        type='SCLIPSegmentor',
        backbone=dict(type='CLIPVisionTransformer'),
        decode_head=dict(type='TextSimilarityHead', vocabulary=WORDS, templates='simple'),
    )
    methods = dict(a=dict(method, clip=mini_clip, test_cfg=dict(mode='whole')), b=dict(method, clip=dict(mini_clip)))
    methods['c'] = dict(method, clip=dict(mini_clip, pretrained=str(tmp_path / 'other.pt')))
    methods['d'] = dict(methods['a'], backbone=dict(type='CLIPVisionTransformer', positions='bilinear'))
    bundle = MODELS.build(dict(type='MethodBundle', methods=methods)).eval()
    a, b, c, d = (model.backbone.tower for model in bundle.methods)
    assert a is b and a is not d and a.visual is d.visual and torch.equal(2 * a.visual.proj, c.visual.proj)
    encoders = [model.decode_head.text_encoder for model in bundle.methods]
    assert encoders[0] is encoders[1] is encoders[3] is not encoders[2]
    methods['e'] = dict(methods['b'], data_preprocessor=dict(type='CLIPDataPreProcessor', mean=(0, 0, 0)))
    bundle = MODELS.build(dict(type='MethodBundle', methods=methods)).eval()
    inputs = [(60 * images[0] + 120).clamp(0, 255).byte()]
    (result,) = bundle.test_step(dict(inputs=inputs, data_samples=[sample((50, 60))]))
    each = [result.get(f'pred_sem_seg_{index}').data for index in range(5)]
    for labels, model in zip(each, bundle.methods, strict=True):  # each normalises the image itself
        (alone,) = model.test_step(dict(inputs=inputs, data_samples=[sample((50, 60))]))
        assert torch.equal(labels, alone.pred_sem_seg.data)
    assert not torch.equal(each[1], each[4])
