"""The segmentor: batched windows against MMSeg's loop, batches against single images, and its interface."""

import numpy as np
import pytest
import torch
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from reference import Reference, class_probabilities

from mmseg_sclip.errors import ConfigError
from mmseg_sclip.models import Refinement
from mmseg_sclip.models.image import postprocess
from mmseg_sclip.models.image import scores as scores_module
from mmseg_sclip.models.image.scores import whole
from mmseg_sclip.models.image.windows import WindowGrid
from mmseg_sclip.models.methods.pearl.propagation import TextLabelPropagation
from mmseg_sclip.models.refinements import PAMR, pamr

WORDS = [['cat', 'kitten'], 'dog', 'tree']


def build(clip, head=None, **test_cfg):
    return MODELS.build(
        dict(
            type='SCLIPSegmentor',
            clip=clip,
            backbone=dict(type='CLIPVisionTransformer'),
            decode_head={
                **dict(type='TextSimilarityHead', vocabulary=WORDS, templates='simple', background_index=0),
                **(head or {}),
            },
            test_cfg={**dict(crop_size=(64, 64), stride=(32, 32)), **test_cfg},
        )
    ).eval()


def sample(ori_shape, **meta):
    return SegDataSample(metainfo=dict(ori_shape=ori_shape, **meta))


@pytest.fixture
def images():
    torch.manual_seed(0)
    return [torch.randn(3, 97, 130), torch.randn(3, 64, 64), torch.randn(3, 40, 150)]


@pytest.mark.parametrize(
    'height, width, expected',
    [
        (224, 224, [(0, 224, 0, 224)]),
        (100, 336, [(0, 100, 0, 224), (0, 100, 112, 336)]),
        (225, 224, [(0, 224, 0, 224), (1, 225, 0, 224)]),
    ],
)
def test_window_grid_by_hand(height, width, expected):
    assert WindowGrid.cut(height, width, (224, 224), (112, 112)).windows == expected


def test_number_of_windows_of_the_benchmarks():
    sizes = ((336, 448), (448, 597), (560, 1120))
    assert [len(WindowGrid.cut(*size, (224, 224), (112, 112)).windows) for size in sizes] == [6, 15, 36]


@pytest.mark.parametrize('window_batch', [1, 3, 64])
@pytest.mark.parametrize('crop, stride', [((64, 64), (32, 32)), ((48, 80), (16, 48)), ((80, 48), (64, 16))], ids=str)
def test_batched_windows_equal_mmsegs_sequential_loop(mini_clip, images, window_batch, crop, stride):
    model = build(mini_clip, window_batch=window_batch, crop_size=crop, stride=stride)
    samples = [sample(image.shape[1:]) for image in images]
    with torch.no_grad():
        for image, ours in zip(images, model.score(images, samples), strict=True):
            theirs = model.slide_inference(image[None], [dict(ori_shape=image.shape[1:])])[0]
            torch.testing.assert_close(whole(ours), theirs, atol=1e-5, rtol=0)


THRESHOLDS = [
    dict(),
    dict(prob_thd=0.3),
    dict(area_thd=0.3),
    dict(prob_thd=0.34, area_thd=0.2),
    dict(logit_scale=4000),
    dict(logit_scale=4000, area_thd=0.4),
]


def same_but_for_ties(ours, model, image, shape):
    """Labels equal the plain way's wherever its two best class scores differ by 1e-6 or more."""
    plain, head = Reference(model), model.decode_head
    expected = plain.predict(image, shape)
    scores = class_probabilities(
        plain.score(image, shape), head.vocabulary.sizes, model.test_cfg, head.background_index
    )
    best = scores.topk(2, dim=0).values
    clear = best[0] - best[1] >= 1e-6
    if model.test_cfg.prob_thd:
        clear &= (best[0] - model.test_cfg.prob_thd).abs() >= 1e-6
    assert clear.float().mean() > 0.9 and (ours == expected).float().mean() > 0.9995
    return torch.equal(ours[clear], expected[clear])


@pytest.mark.parametrize('thresholds', THRESHOLDS, ids=str)
@pytest.mark.parametrize('mode', ['slide', 'whole', 'input'])
def test_labels_in_bands_equal_the_plain_way_on_odd_sizes(mini_clip, images, mode, thresholds, monkeypatch):
    whole = dict(mode='whole', whole_resize='input' if mode == 'input' else 'direct')
    model = build(mini_clip, **thresholds, **({} if mode == 'slide' else whole))
    shapes = [(301, 99), (64, 64), (33, 217)]
    monkeypatch.setattr(scores_module, '_BAND_CPU', 5000)  # several bands, the last one shorter
    found = set()
    with torch.no_grad():
        for image, shape in zip(images, shapes, strict=True):
            (result,) = model.predict([image], [sample(shape)])
            assert same_but_for_ties(result.pred_sem_seg.data[0], model, image, shape)
            found |= set(result.pred_sem_seg.data.unique().tolist())
    assert len(found) > 1


@pytest.mark.parametrize('thresholds', THRESHOLDS, ids=str)
def test_kept_scores_change_no_label(mini_clip, images, thresholds):
    shapes = [(301, 99), (64, 64), (33, 217)]
    with torch.no_grad():
        for image, shape in zip(images, shapes, strict=True):
            results = [
                build(mini_clip, keep_scores=keep, **thresholds).predict([image], [sample(shape)])
                for keep in (False, True)
            ]
            assert torch.equal(results[0][0].pred_sem_seg.data, results[1][0].pred_sem_seg.data)


@pytest.mark.parametrize('seed', range(12))
def test_bands_equal_the_plain_functions_on_random_scores(seed, monkeypatch):
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    sizes = rng.integers(1, 4, rng.integers(2, 7)).tolist()
    phrases = int(rng.integers(2, sum(sizes) + 1))
    queries = torch.from_numpy(rng.integers(0, phrases, sum(sizes)))  # repeated, in any order, some phrases unused
    patches, rows, columns = torch.randn(6, phrases, 8), torch.rand(37, 6), torch.rand(29, 8)
    pixels = scores_module.PixelScores(patches / 40, rows, columns, queries)
    cosines = torch.einsum('ip,pqr,jr->qij', rows, patches / 40, columns)[queries]
    torch.testing.assert_close(whole(pixels), cosines)
    scale, background = 40 if seed % 3 else 4000, int(rng.integers(len(sizes)))
    monkeypatch.setattr(scores_module, '_BAND_CPU', 29 * sum(sizes) * 5)
    for prob_thd, area_thd in ((None, None), (0.3, None), (None, 0.2), (0.25, 0.4)):
        scores = postprocess.best_of_class((whole(pixels) * scale).softmax(0), sizes)
        if area_thd is not None:
            counts = np.bincount(scores.argmax(0).flatten().numpy(), minlength=len(sizes))
            foreground = counts.sum() - counts[background]
            for label, count in enumerate(counts):
                if label != background and not count > area_thd * foreground:
                    scores[label] = 0
        best, expected = scores.max(0)
        if prob_thd is not None:
            expected[best < prob_thd] = background
        classes = scores_module.ClassScores(pixels, sizes, scale)
        for keep in (False, True):
            labels, kept = scores_module.label_in_bands(classes, prob_thd, area_thd, background, keep)
            assert torch.equal(labels, expected)
            assert (kept is not None) is keep
            if keep:
                torch.testing.assert_close(kept, scores, atol=1e-3, rtol=0)


def test_scores_stand_in_the_order_of_the_queries(mini_clip):
    model = build(mini_clip, dict(vocabulary=['dog', ['tree', 'bed'], 'bed', 'cat'], background_index=None))
    head, features = model.decode_head, torch.randn(2, 64, 3, 4)
    with torch.no_grad():
        scores = head(features)
        assert scores.shape == (2, 5, 3, 4)
        assert torch.equal(scores, head((torch.randn(2, 64, 3, 4), features)))  # the last of a backbone's levels
        bank = head.text_bank
        for place, phrase in enumerate(['dog', 'tree', 'bed', 'bed', 'cat']):
            vector = bank[head.vocabulary.distinct.index(phrase)]
            cosine = torch.cosine_similarity(features, vector.view(1, -1, 1, 1), dim=1)
            torch.testing.assert_close(scores[:, place], cosine, atol=1e-5, rtol=0)
        head.text_bank = bank.flip(0)  # any matrix may be set
        torch.testing.assert_close(head.distinct(head(features)), head.distinct(scores).flip(1))


def test_a_phrase_of_two_classes_ties_for_the_first(mini_clip, images):
    model = build(mini_clip, dict(vocabulary=[['tree', 'bed'], 'bed', 'dog'], background_index=None))
    with torch.no_grad():
        for image in images:
            (result,) = model.predict([image], [sample((301, 217))])
            labels = result.pred_sem_seg.data
            assert not (labels == 1).any()
            assert (labels[0] == Reference(model).predict(image, (301, 217))).float().mean() > 0.9999


@pytest.mark.parametrize('mode', ['slide', 'whole'])
def test_a_batch_of_different_sizes_equals_one_by_one(mini_clip, images, mode):
    model = build(mini_clip, mode=mode, keep_scores=True, area_thd=0.1, prob_thd=0.1, logit_scale=65)
    shapes = [(120, 99), (64, 64), (33, 140)]
    with torch.no_grad():
        together = model.predict(images, [sample(shape) for shape in shapes])
        for image, shape, result in zip(images, shapes, together, strict=True):
            (alone,) = model.predict([image], [sample(shape)])
            assert result.pred_sem_seg.data.shape == (1, *shape)
            assert result.pred_sem_seg.data.dtype == torch.int64
            torch.testing.assert_close(result.seg_logits.data, alone.seg_logits.data, atol=1e-5, rtol=0)
            assert (result.pred_sem_seg.data == alone.pred_sem_seg.data).float().mean() > 0.9999


def test_tensor_and_list_and_no_samples_agree(mini_clip):
    model = build(mini_clip)
    batch = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        from_tensor, from_list = model.predict(batch), model.predict(list(batch), [sample((64, 96)) for _ in batch])
        for first, second in zip(from_tensor, from_list, strict=True):
            assert torch.equal(first.pred_sem_seg.data, second.pred_sem_seg.data)
            assert 'seg_logits' not in first  # off by default: it fills memory
        (features,) = model.extract_feat(batch)
        assert features.shape == (2, 64, 4, 6)
        listed = torch.cat([feature for (feature,) in model.extract_feat(list(batch))])
        torch.testing.assert_close(listed, features, atol=1e-5, rtol=0)
        assert model._forward(batch).shape == (2, 4, 4, 6)
        torch.testing.assert_close(torch.cat(model._forward(list(batch))), model._forward(batch), atol=1e-5, rtol=0)


# What was padded (left, right, top, bottom) and flipped; several in a row on one model, since matrices are cached.
TREATMENTS = [
    dict(padding_size=(0, 28, 0, 16)),
    dict(img_padding_size=(5, 9, 3, 12)),
    dict(img_padding_size=(9, 5, 12, 3), padding_size=(1, 1, 1, 1)),
    dict(padding_size=(5, 9, 3, 12), flip=True, flip_direction='horizontal'),
    dict(padding_size=(5, 9, 3, 12), flip=True, flip_direction='vertical'),
    dict(flip=True, flip_direction='horizontal'),
    dict(flip=True, flip_direction='vertical'),
    dict(flip=False, flip_direction='vertical'),
]


def mmsegs_clean_up(model, maps, shape, meta):
    """(K, H, W) at the network's input size, through the functions of MMSeg's own segmentor."""
    (result,) = super(type(model), model).postprocess_result(maps[None], [sample(shape, **meta)])
    return result.seg_logits.data


def class_scores_by_hand(cosines):
    """For WORDS, of which the first class has two phrases."""
    probabilities = (cosines * 40).softmax(0)
    return torch.stack([probabilities[:2].amax(0), probabilities[2], probabilities[3]])


@pytest.mark.parametrize('refine', [(), [dict(type='PAMR', steps=2, dilations=(1, 3))]], ids=['', 'PAMR'])
@pytest.mark.parametrize('mode', ['slide', 'whole'])
def test_padding_and_flips_are_undone_as_mmseg_does(mini_clip, mode, refine):
    model = build(mini_clip, mode=mode, keep_scores=True, refine=refine)
    image = torch.randn(3, 96, 128)
    with torch.no_grad():
        for meta in TREATMENTS:
            (result,) = model.predict([image], [sample((60, 75), **meta)])
            if mode == 'slide':
                cosines = model.slide_inference(image[None], [dict(ori_shape=image.shape[1:])])[0]
            elif any('padding' in key for key in meta):
                cosines = model.encode_decode(image[None], [dict(ori_shape=image.shape[1:])])[0]
            else:  # straight from the patches
                cosines = model._forward(image[None])[0]
            cosines = mmsegs_clean_up(model, cosines, (60, 75), meta)
            if refine:
                cosines = pamr(mmsegs_clean_up(model, image, (60, 75), meta), cosines, 2, (1, 3))
            torch.testing.assert_close(result.seg_logits.data, class_scores_by_hand(cosines), atol=1e-4, rtol=0)


def test_whole_mode_goes_straight_to_the_original_size_or_through_the_input(mini_clip):
    image = torch.randn(3, 70, 90)
    with torch.no_grad():
        model = build(mini_clip, mode='whole', keep_scores=True)
        cosines = model._forward(image[None])
        results = {}
        for how in ('direct', 'input'):
            model.test_cfg.whole_resize = how
            results[how] = model.predict([image], [sample((140, 180), img_shape=(70, 90))])[0].seg_logits.data
    up = dict(mode='bilinear', align_corners=False)
    for how, steps in (('direct', [(140, 180)]), ('input', [(70, 90), (140, 180)])):
        scores = cosines
        for size in steps:
            scores = torch.nn.functional.interpolate(scores, size=size, **up)
        probabilities = (scores[0] * 40).softmax(0)
        expected = torch.stack([probabilities[:2].amax(0), probabilities[2], probabilities[3]])
        torch.testing.assert_close(results[how], expected, atol=1e-5, rtol=0)


def test_an_image_smaller_than_a_patch_is_named(mini_clip):
    with pytest.raises(
        ValueError, match='An image reaches the network with 10 x 50 pixels .* at least one patch of 16 x 16'
    ):
        build(mini_clip).predict([torch.randn(3, 10, 50)])


def test_set_vocabulary_changes_classes_and_reads_no_image_weights(mini_clip, monkeypatch):
    model = build(mini_clip, prob_thd=0.1)
    fresh = build(mini_clip, dict(vocabulary=['sky', 'sea'], background_index=1), prob_thd=0.1)
    image = torch.randn(3, 64, 64)
    with torch.no_grad():
        model.predict([image])
        tower = model.backbone.tower
        monkeypatch.setattr(type(model.source), 'image_tower', None)
        model.set_vocabulary(['sky', 'sea'], class_names=['SKY', 'SEA'], background_index=1)
        assert model.backbone.tower is tower
        assert (model.num_classes, model.out_channels) == (2, 2)
        assert model.dataset_meta['classes'] == ['SKY', 'SEA']
        changed = model.predict([image])[0].pred_sem_seg.data
        assert torch.equal(changed, fresh.predict([image])[0].pred_sem_seg.data)
    with pytest.raises(ValueError, match='background_index is None'):
        model.set_vocabulary(['sky', 'sea'])
    assert model.decode_head.vocabulary.num_classes == 2


def test_text_tower_is_dropped_unless_kept(mini_clip, tmp_path):
    for keep in (False, True):
        model = build(dict(mini_clip, keep_text=keep, cache_dir=str(tmp_path / str(keep))))
        with torch.no_grad():
            model.predict([torch.randn(3, 64, 64)])
        assert (model.decode_head.text_encoder.network is not None) is keep
        assert not any('token_embedding' in name for name, _ in model.named_parameters())
        assert not any('text_bank' in key for key in model.state_dict())


def test_loss_is_the_cross_entropy_of_class_scores(mini_clip):
    model = build(mini_clip)
    truth = torch.randint(0, 3, (1, 64, 80))
    truth[0, :5] = 255
    from mmengine.structures import PixelData

    data = sample((64, 80))
    data.gt_sem_seg = PixelData(data=truth)
    image = torch.randn(3, 64, 80)
    losses = model([image], [data], mode='loss')
    with torch.no_grad():
        cosines = torch.nn.functional.interpolate(model._forward(image[None]), size=(64, 80), mode='bilinear')[0]
    probabilities = (cosines * 40).softmax(0)
    classes = torch.stack([probabilities[:2].amax(0), probabilities[2], probabilities[3]])
    known = truth[0] != 255
    expected = -classes.gather(0, truth.clamp(max=2))[0][known].log().mean()
    torch.testing.assert_close(losses['decode.loss_ce'], expected)
    accuracy = 100 * (classes.argmax(0) == truth[0])[known].float().mean()
    torch.testing.assert_close(losses['decode.acc_seg'], accuracy)


def test_everything_is_frozen(mini_clip):
    assert not [name for name, parameter in build(mini_clip).named_parameters() if parameter.requires_grad]


@pytest.mark.parametrize(
    'wrong, words',
    [
        (dict(stirde=(1, 1)), "Unknown key 'stirde' in model.test_cfg. Did you mean 'stride'?"),
        (dict(mode='slid'), "'slid'"),
        (dict(crop_size=(0, 64)), 'whole number, at least 1'),
        (dict(crop_size=64.0), '(height, width)'),
        (dict(stride=(65, 32)), 'leaves pixels uncovered'),
        (dict(crop_size=(64, 48), stride=(32, 56)), 'leaves pixels uncovered'),
        (dict(window_batch=0), 'at least 1'),
        (dict(logit_scale=0), 'positive'),
        (dict(logit_scale=float('inf')), 'positive'),
        (dict(prob_thd=1.5), '0 to 1'),
        (dict(area_thd=float('nan')), '0 to 1'),
    ],
    ids=str,
)
def test_wrong_settings_are_named_before_weights_are_read(wrong, words):
    with pytest.raises(ValueError, match='model.test_cfg') as caught:
        build(dict(model_name='/nowhere.json', pretrained='/nowhere.pt'), **wrong)
    assert words in str(caught.value)


@pytest.mark.parametrize('key, value', [('prob_thd', 0.1), ('area_thd', 0.1), ('area_thd', 0)])
def test_thresholds_without_background_are_explained(mini_clip, key, value):
    with pytest.raises(ValueError, match=f'{key} is .*background_index is None'):
        build(mini_clip, dict(background_index=None), **{key: value})


def test_thresholds_that_are_off_need_no_background(mini_clip):
    for value in (0, None):
        build(mini_clip, dict(background_index=None), prob_thd=value, refine=None)


@pytest.mark.parametrize(
    'change, words',
    [
        (lambda model: setattr(model.test_cfg, 'prob_thd', 0.5), 'background_index is None'),
        (lambda model: model.test_cfg.update(area_thd=0.5), 'background_index is None'),
        (lambda model: model.test_cfg.update(dict(stride=(65, 65))), 'uncovered'),
        (lambda model: setattr(model.test_cfg, 'prob_th', 0.5), "Did you mean 'prob_thd'"),
        (lambda model: model.test_cfg.update(crop_size=(8, 8), stride=(8, 8)), 'smaller than a patch'),
        (lambda model: model.test_cfg.__setitem__('keep_scores', 'no'), 'True or False'),
        (lambda model: setattr(model, 'test_cfg', dict(logit_scale=float('inf'))), 'positive number'),
    ],
)
def test_settings_are_checked_when_they_are_set(mini_clip, change, words):
    model = build(mini_clip, dict(background_index=None))
    before = dict(model.test_cfg)
    with pytest.raises(ConfigError, match=words):
        change(model)
    assert dict(model.test_cfg) == before
    model.test_cfg.mode = 'whole'
    assert model.test_cfg.get('mode') == model.test_cfg['mode'] == 'whole'


def test_settings_are_a_mapping(mini_clip):
    settings = build(mini_clip).test_cfg
    assert 'mode' in settings and 'mod' not in settings and settings.get('mod', 5) == 5
    assert list(settings) == list(settings.keys()) == list(dict(settings)) and {**settings}['mode'] == settings.mode
    settings.update(dict(window_batch=1, mode='slide'), dict(window_batch=2), mode='whole')
    assert (settings.window_batch, settings.mode) == (2, 'whole')


def test_a_plain_dict_of_settings_is_completed(mini_clip):
    model = build(mini_clip)
    model.test_cfg = dict(mode='whole')
    with torch.no_grad():
        assert model.predict([torch.randn(3, 40, 64)])[0].pred_sem_seg.data.shape == (1, 40, 64)
    assert model.test_cfg.logit_scale == 40


def test_refinements_run_in_their_order_at_their_stage(mini_clip):
    @MODELS.register_module(force=True)
    class ToyRefinement(Refinement):
        def __init__(self, stage, factor):
            super().__init__()
            self.stage = stage
            self.factor = factor

        def forward(self, scores, image):
            assert scores.shape[1:] == image.shape[1:] == (50, 70)
            return (scores + 0.01) * self.factor

    image = torch.randn(3, 64, 96)
    entries = [('class scores', 3.0), ('cosines', 0.5), ('cosines', -1.0)]
    refine = [dict(type='ToyRefinement', stage=stage, factor=factor) for stage, factor in entries]
    model = build(mini_clip, keep_scores=True)
    with torch.no_grad():
        (scores,) = model.score([image], [sample((50, 70))])
        cosines = -((whole(scores) + 0.01) * 0.5 + 0.01)
        expected = (class_scores_by_hand(cosines) + 0.01) * 3
        model.test_cfg.refine = refine
        (result,) = model.predict([image], [sample((50, 70))])
    torch.testing.assert_close(result.seg_logits.data, expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_refined_phrases_of_two_classes_stay_equal(mini_clip):
    head = dict(vocabulary=['dog', ['tree', 'bed'], 'bed'], background_index=None)
    model = build(mini_clip, head, keep_scores=True, refine=[dict(type='PAMR', steps=2, dilations=(1, 3))])
    image = torch.randn(3, 64, 96)
    (scores,) = model.score([image], [sample((50, 70))])
    guide = mmsegs_clean_up(model, image, (50, 70), {})
    cosines = pamr(guide, whole(scores), 2, (1, 3))
    (result,) = model.predict([image], [sample((50, 70))])
    probabilities = (cosines * 40).softmax(0)
    expected = torch.stack([probabilities[0], probabilities[1:3].amax(0), probabilities[3]])
    torch.testing.assert_close(result.seg_logits.data, expected, atol=1e-4, rtol=0)
    refined = whole(model.refine_cosines(scores, image, sample((50, 70))))
    assert torch.equal(refined[2], refined[3])


@torch.no_grad()
def test_labelling_stays_in_float32_under_autocast(mini_clip, images):
    model = build(mini_clip, prob_thd=0.3, area_thd=0.1)
    (scores,) = model.score(images[:1], [sample((301, 99))])
    expected = model.label(scores, images[0], sample((301, 99))).pred_sem_seg.data
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(model.label(scores, images[0], sample((301, 99))).pred_sem_seg.data, expected)


def test_words_of_a_call_leave_the_model_alone(mini_clip):
    model, image = build(mini_clip), torch.randn(3, 64, 64)
    with torch.no_grad():
        before = model.predict([image])[0].pred_sem_seg.data
        other = model.with_vocabulary(['sky', 'sea'], background_index=1, prob_thd=0.2)
        assert other.backbone is model.backbone
        fresh = build(mini_clip, dict(vocabulary=['sky', 'sea'], background_index=1), prob_thd=0.2)
        expected = fresh.predict([image])[0].pred_sem_seg.data
        assert torch.equal(other.predict([image])[0].pred_sem_seg.data, expected)
        assert torch.equal(model.predict([image])[0].pred_sem_seg.data, before)
    assert (model.num_classes, other.num_classes, model.test_cfg.prob_thd) == (3, 2, None)
    with pytest.raises(ConfigError, match='background_index is None'):
        other.with_vocabulary(['sky'])


def test_a_refinement_that_was_given_built_serves_a_copy_too(mini_clip):
    model, image = build(mini_clip, mode='whole'), torch.randn(3, 64, 64)
    model.test_cfg.refine = [TextLabelPropagation(), PAMR(steps=1)]
    with torch.no_grad():
        before = model.predict([image])[0].pred_sem_seg.data
        model.with_vocabulary(['sky', 'sea']).predict([image])
        assert torch.equal(model.predict([image])[0].pred_sem_seg.data, before)


def test_what_a_refinement_learns_when_bound_is_its_own(mini_clip):
    class KnowsTheClasses(Refinement):
        def bind(self, segmentor):
            self.register_buffer('classes', torch.tensor(segmentor.num_classes))
            self.layer = torch.nn.Linear(segmentor.num_classes, 1)

    model, given = build(mini_clip), KnowsTheClasses()
    model.test_cfg.refine = [given]
    other = model.with_vocabulary(['sky', 'sea'])
    bound = [built.refinements[0] for built in (model, other)]
    assert [(one.classes.item(), one.layer.in_features) for one in bound] == [(3, 3), (2, 2)]
    assert not hasattr(given, 'classes') and not hasattr(given, 'layer')


def test_names_that_do_not_fit_the_words_are_not_taken_over(mini_clip):
    model = build(mini_clip)
    model.dataset_meta = dict(classes=('road', 'car'), palette=[[1, 2, 3]] * 2)  # as MMSeg's inferencer does
    assert model.dataset_meta['classes'] == ['cat', 'dog', 'tree']
    model.dataset_meta = dict(classes=('cat', 'dog', 'tree'), palette=[[1, 2, 3]] * 3)
    assert model.dataset_meta['palette'] == [[1, 2, 3]] * 3


def test_refinements_of_windows_need_whole_images(mini_clip):
    for head, mode in ((dict(pd_thresh=0.5), 'slide'), (dict(ks_thresh=1.0), 'slide')):
        with pytest.raises(ConfigError, match="mode='whole'"):
            build(mini_clip, dict(type='MaskCLIPHead', **head), mode=mode)
    model = build(mini_clip, dict(type='MaskCLIPHead', pd_thresh=0.5), mode='whole')
    with pytest.raises(ConfigError, match="mode='whole'"):
        model.test_cfg.mode = 'slide'


def test_a_crop_below_a_patch_and_an_unknown_flip_are_refused(mini_clip):
    with pytest.raises(ValueError, match='crop_size is .8, 8., smaller than a patch'):
        build(mini_clip, crop_size=(8, 8), stride=(8, 8))
    model = build(mini_clip)
    with pytest.raises(ValueError, match="flip_direction is 'diagonal'"):
        model.predict([torch.randn(3, 64, 64)], [sample((64, 64), flip=True, flip_direction='diagonal')])


def test_an_image_that_is_too_small_is_named(mini_clip):
    with pytest.raises(ValueError, match='some/file.jpg reaches the network with 8 x 64 pixels'):
        build(mini_clip).predict([torch.randn(3, 8, 64)], [sample((8, 64), img_path='some/file.jpg')])


def test_the_bank_survives_inference_mode_and_half_precision(mini_clip):
    model = build(mini_clip)
    with torch.inference_mode():
        model.predict([torch.randn(3, 64, 64)])
    features = torch.randn(1, 64, 2, 2, requires_grad=True)
    model.decode_head(features).sum().backward()
    assert features.grad is not None
    model.half()
    assert model.decode_head(features.half()).dtype == torch.float32


def test_parts_may_not_bring_a_clip_of_their_own(mini_clip):
    with pytest.raises(ValueError, match='model.decode_head.clip'):
        build(mini_clip, dict(clip=mini_clip))


def test_checkpoints(mini_clip):
    from mmengine.runner.checkpoint import load_state_dict

    model = build(mini_clip)
    key = 'backbone.tower.visual.class_embedding'
    load_state_dict(model, {key: torch.full((128,), 2.0)}, strict=True)  # strict, yet the rest of CLIP may be missing
    assert (model.state_dict()[key] == 2).all()
    with pytest.raises(ValueError, match='no weight for this model: it holds decode_head.conv_seg.weight'):
        load_state_dict(model, {'decode_head.conv_seg.weight': torch.zeros(1)})
    with pytest.raises(ValueError, match=r'another model: .* \(64,\) in it and \(128,\) here'):
        load_state_dict(model, {key: torch.zeros(64)})
