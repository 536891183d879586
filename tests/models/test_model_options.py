"""Options, dtypes and rare shapes of the models, against definitions and the parts alone."""

import copy
import json
import math
from types import SimpleNamespace

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch.nn import functional as F

from mmseg_sclip.errors import ConfigError
from mmseg_sclip.models import BlockInput, Refinement, SCLIPTTAModel
from mmseg_sclip.models.clip import POSITION_RULES, ClipSource
from mmseg_sclip.models.clip.text_encoder import tokenize
from mmseg_sclip.models.image.scores import MapScores, whole
from mmseg_sclip.models.methods.cliptrase.affinity import token_similarity
from mmseg_sclip.models.methods.maskclip import smooth_by_keys
from mmseg_sclip.models.methods.pearl.attention import ProcrustesAttention
from mmseg_sclip.models.methods.pearl.propagation import propagate
from mmseg_sclip.models.methods.resclip.label_grids import blur_rows, refined_labels
from mmseg_sclip.models.methods.sc_clip.decoder import _average
from mmseg_sclip.models.methods.sc_clip.outliers import cosine_affinity, local_outlier_scores, repair_tokens
from mmseg_sclip.models.segmentors import score_together


def head_of(clip, kind, **config):
    return MODELS.build(dict(type=kind, clip=clip, vocabulary=['cat', 'dog', 'tree'], templates='simple') | config)


def model_of(clip, head=None, test_cfg=None, attention='CorrelativeSelfAttention', **backbone):
    decoder = dict(type='LastBlock', attention=dict(type=attention))
    return MODELS.build(
        dict(
            type='SCLIPSegmentor',
            clip=clip,
            backbone=dict(type='CLIPVisionTransformer', decoder=decoder) | backbone,
            decode_head=dict(type='TextSimilarityHead', vocabulary=['cat', 'dog', 'tree'], templates='simple')
            | (head or {}),
            test_cfg=dict(crop_size=(64, 64), stride=(32, 32)) | (test_cfg or {}),
        )
    ).eval()


def test_patches_that_are_sure_to_the_last_bit_stay_as_they_are():
    cosines = torch.tensor([[0.9, 0.2], [0.2, 0.3]]).view(1, 2, 1, 2)  # exp(-70) is nothing beside 1
    keys = torch.tensor([[[3.0, 0.0], [3.0, 4.0]]])
    refined = smooth_by_keys(cosines, keys, 1.0)[0, :, 0]
    assert refined[:, 0].tolist() == pytest.approx([1, math.exp(-70)])
    unsure = (100 * cosines[0, :, 0]).softmax(0)
    torch.testing.assert_close(refined[:, 1], 0.6 * unsure[:, 0] + unsure[:, 1])


def test_thresholds_are_those_of_the_config(mini_clip):
    bank, features = torch.eye(3, 8), torch.zeros(1, 8, 1, 2)
    features[0, :3, 0, 0], features[0, :3, 0, 1] = torch.tensor([0.606, 0.6, 0.5]), torch.tensor([0.5, 0.6, 0.61])
    kept = {}
    for threshold in (0.3, 0.5, 0.9):
        head = head_of(mini_clip, 'MaskCLIPHead', pd_thresh=threshold)
        head.text_bank = bank
        scores = head(features)[0]
        kept[threshold] = [bool((query > -100).all()) for query in scores]
    assert kept == {0.3: [True, True, True], 0.5: [True, False, True], 0.9: [False, False, False]}


def test_the_loss_of_a_batch_with_a_scale_of_its_own_and_a_crop_without_truth(mini_clip):
    model = model_of(mini_clip)
    model.train_cfg = dict(logit_scale=10)
    torch.manual_seed(0)
    images, samples = [torch.randn(3, 64, 80), torch.randn(3, 48, 64), torch.randn(3, 32, 32)], []
    for image in images:
        samples.append(SegDataSample(metainfo=dict(ori_shape=image.shape[1:])))
        samples[-1].gt_sem_seg = PixelData(data=torch.randint(0, 3, (1, *image.shape[1:])))
    samples[2].gt_sem_seg.data[:] = 255
    losses = model.loss(images, samples)
    each = []
    with torch.no_grad():
        for image, sample in zip(images[:2], samples, strict=False):
            cosines = F.interpolate(model._forward(image[None]), size=image.shape[1:], mode='bilinear')
            each.append(F.cross_entropy(10 * cosines, sample.gt_sem_seg.data))
    torch.testing.assert_close(losses['decode.loss_ce'].detach(), (each[0] + each[1]) / 3)
    assert losses['decode.acc_seg'].isfinite()
    features = torch.randn(2, 64, 2, 2)
    both = model.decode_head.loss(features, samples[:2], None)['loss_ce']
    alone = [model.decode_head.loss(features[i : i + 1], samples[i : i + 1], None)['loss_ce'] for i in (0, 1)]
    torch.testing.assert_close(both, sum(alone) / 2)


@torch.no_grad()
def test_encode_decode_goes_the_way_of_the_settings(mini_clip):
    model, image = model_of(mini_clip, test_cfg=dict(mode='whole')), torch.randn(1, 3, 64, 96)
    for how, size in (('direct', (50, 70)), ('input', (64, 96))):
        model.test_cfg.whole_resize = how
        meta = [dict(ori_shape=(50, 70), img_shape=(64, 96))]
        expected = F.interpolate(model._forward(image), size=size, mode='bilinear')
        torch.testing.assert_close(model.encode_decode(image, meta), expected)


def test_the_background_is_black(mini_clip):
    palette = head_of(mini_clip, 'TextSimilarityHead', background_index=1).dataset_meta['palette']
    assert palette[1] == [0, 0, 0] and palette[0] != [0, 0, 0] != palette[2]


@torch.no_grad()
def test_parts_that_autocast_does_not_touch(mini_clip):
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 2, 41, 8)
    b = BlockInput(q, k, v, torch.randn(2, 41, 16), (5, 8), 1, 8**-0.5)
    x, image = torch.randn(2, 40, 16), torch.randn(3, 20, 30)
    bank = F.normalize(torch.randn(4, 16), dim=-1)
    coarse, cosines = torch.rand(1, 4, 2, 3), torch.rand(4, 20, 30)
    affinity = torch.rand(2, 40, 40)
    parts = dict(
        smoothed=lambda: smooth_by_keys(torch.rand(2, 5, 5, 8, generator=torch.Generator().manual_seed(0)) / 3, x, 1.0),
        averages=lambda: _average(affinity, 0.4, x),
        blurred=lambda: blur_rows(affinity, 5.0),
        outliers=lambda: local_outlier_scores(x, 7),
        cosines=lambda: cosine_affinity(x),
        similarity=lambda: token_similarity(b),
        procrustes=lambda: ProcrustesAttention().attend(b),
        pairs=lambda: ProcrustesAttention().pairs(b)[0][1],
        labels=lambda: refined_labels(coarse, image[None], 40, 0.3, 3, (1,)),
        propagate=lambda: propagate(cosines, image, bank, torch.ones(4), 80),
    )
    for name, part in parts.items():
        expected = part()
        with torch.autocast('cpu', torch.bfloat16):
            assert torch.equal(part(), expected), name


def test_priors_are_added_in_float32():
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 2, 7, 4).bfloat16()
    b = BlockInput(q, k, v, torch.randn(2, 7, 8).bfloat16(), (2, 3), 1, 0.5)
    attention = MODELS.build(dict(type='NeighbourAttention', std=1.5))
    (logits,) = attention.terms(b)
    prior = attention.prior(b)
    assert prior.dtype == torch.float32
    torch.testing.assert_close(attention.weights(b), (logits.float() + prior).softmax(-1), atol=1e-6, rtol=0)
    alone = MODELS.build(dict(type='NeighbourPriorAttention', std=1.5))
    lengths = [x.double().norm(dim=-1).mean(-1) for x in (q, k)]
    strength = 0.5 * (lengths[0] * lengths[1]).mean(1)
    expected = (strength[:, None, None, None] * prior.double()).softmax(-1)
    torch.testing.assert_close(alone.weights(b).double(), expected, atol=1e-6, rtol=0)


def test_a_projection_without_training_says_so_once(mini_clip, monkeypatch):
    said = []
    monkeypatch.setattr('mmseg_sclip.models.attention.projections.print_log', lambda text, **_: said.append(text))
    decoder = dict(type='LastBlock', attention=dict(type='CorrelativeSelfAttention', projections=['learned']))
    plain, loaded, trained = (model_of(mini_clip, decoder=copy.deepcopy(decoder)) for _ in range(3))
    image = torch.randn(1, 3, 48, 48)
    plain._forward(image)
    plain._forward(image)
    assert len(said) == 1 and 'still at its start' in said[0]
    key = 'backbone.decoder.attention.projections.0.matrix'
    loaded.load_state_dict({key: torch.eye(128)}, strict=False)
    loaded._forward(image)
    trained.train()
    trained._forward(image)
    assert len(said) == 1


@torch.no_grad()
def test_an_image_of_one_patch(mini_clip):
    for shape in ((16, 16), (16, 40), (40, 16)):
        assert model_of(mini_clip).predict([torch.randn(3, *shape)])[0].pred_sem_seg.data.shape == (1, *shape)


@torch.no_grad()
def test_patches_and_native_grids_that_are_not_square(mini_json, tmp_path):
    description = json.loads(mini_json.read_text())
    description['vision_cfg'].update(image_size=[64, 96], patch_size=[8, 16])  # 8 x 6 patches
    (tmp_path / 'wide.json').write_text(json.dumps(description))
    clip = dict(model_name=str(tmp_path / 'wide.json'))
    torch.manual_seed(0)
    source = ClipSource(**clip)
    backbone = MODELS.build(
        dict(
            type='CLIPVisionTransformer',
            clip=source,
            out_cls=True,
            decoder=dict(type='LastBlock', attention=dict(type='VanillaSelfAttention')),
        )
    )
    images = torch.randn(2, 3, 64, 96)
    ((features, cls),) = backbone(images)
    assert features.shape == (2, 64, 8, 6)
    torch.testing.assert_close(cls, source.visual(images), atol=1e-5, rtol=0)
    assert backbone.tower.embed(torch.randn(1, 3, 41, 80))[1] == (5, 5)
    table = torch.randn(1 + 8 * 6, 3)
    for rule in ('scale', 'size'):
        fitted = POSITION_RULES[rule](table, (8, 6), (10, 9))
        turned = torch.cat([table[:1], table[1:].view(8, 6, 3).transpose(0, 1).flatten(0, 1)])
        other = POSITION_RULES[rule](turned, (6, 8), (9, 10))[1:].view(9, 10, 3).transpose(0, 1).flatten(0, 1)
        torch.testing.assert_close(fitted[1:], other)
    factors = ((10 + 0.1) / 8, (9 + 0.1) / 6)
    by_hand = F.interpolate(table[1:].view(1, 8, 6, 3).permute(0, 3, 1, 2), scale_factor=factors, mode='bicubic')
    torch.testing.assert_close(POSITION_RULES['scale'](table, (8, 6), (10, 9))[1:], by_hand[0].flatten(1).T)


def test_a_context_of_another_length(mini_json, tmp_path):
    description = json.loads(mini_json.read_text())
    description['text_cfg']['context_length'] = 16
    (tmp_path / 'short.json').write_text(json.dumps(description))
    source = ClipSource(model_name=str(tmp_path / 'short.json'))
    assert source.text_encoder().tokenizer()(['a cat']).shape == (1, 16)


def test_mean_and_std_come_with_the_tag():
    source = ClipSource(model_name='ViT-L-14', pretrained='laion2b_s32b_b82k')
    assert source.mean == source.std == (127.5, 127.5, 127.5)


@torch.no_grad()
def test_backbones_of_one_source_have_their_own_positions(mini_clip):
    source, images = ClipSource(**mini_clip), torch.randn(1, 3, 96, 160)
    towers = {}
    for rule in POSITION_RULES:
        backbone = MODELS.build(dict(type='CLIPVisionTransformer', clip=source, positions=rule))
        alone = MODELS.build(dict(type='CLIPVisionTransformer', clip=mini_clip, positions=rule))
        assert torch.equal(backbone(images)[0], alone(images)[0])
        towers[rule] = backbone.tower
    assert len({id(tower.visual) for tower in towers.values()}) == 1  # one copy of the weights


def test_the_padding_of_another_tokenizer_is_no_text():
    class Padded:
        tokenizer = SimpleNamespace(pad_token_id=9)

        def __call__(self, prompts, context_length):
            rows = [[1] * len(p.split()) + [9] * context_length for p in prompts]
            return torch.tensor([row[:context_length] for row in rows])

    assert tokenize(Padded(), ['a b', 'a b c'], 3).tolist() == [[1, 1, 9], [1, 1, 1]]
    with pytest.raises(ConfigError, match="'a b c d' is longer"):
        tokenize(Padded(), ['a b', 'a b c d'], 3)


@torch.no_grad()
def test_decoding_of_lower_precision_ignores_autocast(mini_clip):
    backbone = model_of(dict(mini_clip, precision='fp16')).backbone
    memory = backbone.record(torch.randn(1, 3, 64, 64))
    expected = backbone.decode(memory).patches
    with torch.autocast('cpu', torch.bfloat16):
        ours = backbone.decode(memory).patches
    assert ours.dtype == torch.float16 and torch.equal(ours, expected)


@torch.no_grad()
def test_tta_stays_in_float32_behind_the_network(mini_clip):
    module = model_of(dict(mini_clip, precision='fp16'), test_cfg=dict(keep_scores=True))
    module.data_preprocessor.mean.zero_()
    module.data_preprocessor.std.fill_(1)
    module.test_cfg.refine = [dict(type='ToyProduct')]
    tta, image = SCLIPTTAModel(module), torch.randn(3, 64, 64)

    def data():
        return dict(
            inputs=[[image], [image.flip(2)]],
            data_samples=[
                [SegDataSample(metainfo=dict(ori_shape=(64, 64)))],
                [SegDataSample(metainfo=dict(ori_shape=(64, 64), flip=True, flip_direction='horizontal'))],
            ],
        )

    expected = tta.test_step(data())[0].seg_logits.data
    with torch.autocast('cpu', torch.bfloat16):
        ours = tta.test_step(data())[0].seg_logits.data
    assert torch.equal(ours, expected)


@MODELS.register_module()
class ToyProduct(Refinement):
    """The product with the unit matrix, which autocast would round."""

    def forward(self, scores, image):
        return torch.eye(scores.shape[1]) @ scores


@pytest.mark.parametrize('where', ['model', 'backbone', 'decode_head'])
def test_init_cfg_is_refused(mini_clip, where):
    init = dict(init_cfg=dict(type='Pretrained', checkpoint='x.pth'))
    config = dict(
        type='SCLIPSegmentor',
        clip=mini_clip,
        backbone=dict(type='CLIPVisionTransformer'),
        decode_head=dict(type='TextSimilarityHead', vocabulary=['cat']),
    )
    config.update(init) if where == 'model' else config[where].update(init)
    with pytest.raises(ValueError, match='init_cfg is set'):
        MODELS.build(config)


def test_peaks_of_whole_maps():
    maps = torch.tensor([[[1.0, 5, 2]], [[-3, -1, -2]]])
    assert MapScores(maps).peaks().tolist() == [5, -1]
    assert MapScores(maps, torch.tensor([1, 0, 1])).peaks().tolist() == [-1, 5, -1]


@torch.no_grad()
def test_methods_in_one_pass(mini_clip, mini_json):
    def config(clip=mini_clip, **more):
        return dict(
            type='SCLIPSegmentor',
            clip=clip,
            backbone=dict(type='CLIPVisionTransformer', **more),
            decode_head=dict(type='TextSimilarityHead', vocabulary=['cat', 'dog'], templates='simple'),
            test_cfg=dict(crop_size=(64, 64), stride=(32, 32)),
        )

    torch.manual_seed(0)
    methods = dict(a=config(), b=config(positions='bilinear'), c=config(dict(model_name=str(mini_json))))
    bundle = MODELS.build(dict(type='MethodBundle', methods=methods)).eval()
    image, samples = torch.randn(3, 70, 90), [SegDataSample(metainfo=dict(ori_shape=(50, 60)))]
    each = score_together(list(bundle.methods), [image], samples)
    for model, (scores,) in zip(bundle.methods, each, strict=True):
        assert torch.equal(whole(scores), whole(model.score([image], samples)[0]))
    methods['b']['data_preprocessor'] = dict(type='CLIPDataPreProcessor', mean=(0, 0, 0))
    with pytest.raises(ValueError, match='b normalises images in another way'):
        MODELS.build(dict(type='MethodBundle', methods=methods))


def test_repair_in_lower_precision_sums_in_float32():
    x = (10 + torch.randn(1, 9, 64, generator=torch.Generator().manual_seed(0))).bfloat16()
    outliers = torch.zeros(1, 9, dtype=torch.bool)
    outliers[0, 4] = True
    ours = repair_tokens(x, outliers, (3, 3))
    assert ours.dtype == torch.bfloat16
    expected = x[0, [0, 1, 2, 3, 5, 6, 7, 8]].double().mean(0)
    assert ((ours[0, 4].double() - expected).abs() <= expected.abs() * 2**-8).all()
    assert (ours[0, 4] == expected.bfloat16()).float().mean() > 0.9
