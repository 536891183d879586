"""FreeCP's redundancy purification: the official code's outputs, and naive second implementations."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from mmseg_sclip.apis.settings import thresholds
from mmseg_sclip.errors import ConfigError
from mmseg_sclip.models import Attention
from mmseg_sclip.models.clip import ClipSource
from mmseg_sclip.models.image.scores import PixelScores
from mmseg_sclip.models.methods.freecp.components import fill_boxes
from mmseg_sclip.models.methods.freecp.head import purify

ROOT = Path(__file__).resolve().parents[2]
MODELS_FOLDER = ROOT / 'configs' / '_base_' / 'models'
GOLDENS = np.load(ROOT / 'tests' / 'data' / 'newer_seed0.npz')
SIZES = {(224, 224): 1, (160, 224): 3, (336, 336): 5, (336, 448): 5}  # every so many tokens are stored
CLASSES = [f'class {i}' for i in range(7)]
VOCABULARIES = dict(nobg=CLASSES, bg=[CLASSES[:2], *CLASSES[2:]])
TOWERS = {
    'SCLIP': {},
    'ClearCLIP': dict(attention=dict(projections='q'), ffn=False),
    'MaskCLIP': dict(attention=dict(_delete_=True, type='IdentityAttention')),
    'GEM': {**Config.fromfile(MODELS_FOLDER / 'gem.py').model.backbone.decoder.to_dict(), '_delete_': True},
}
CASES = [(tower, size) for tower in TOWERS for size in SIZES if f'freecp/tokens/{tower}/{size[0]}x{size[1]}' in GOLDENS]


@pytest.fixture(scope='module')
def build(deep_clip):
    """`build(tower, case, test_cfg)` is the model of the shipped config with the synthetic weights."""
    kept = {}

    def build(tower='SCLIP', case='nobg', **test_cfg):
        key = (tower, case, *test_cfg.items())
        if key not in kept:
            config = Config.fromfile(MODELS_FOLDER / 'freecp_sclip.py')
            config.merge_from_dict(dict(model=dict(backbone=dict(decoder=dict(decoder=TOWERS[tower])))))
            if tower == 'GEM':  # whose official wrapper averages over the batch in place of the heads
                config.merge_from_dict(
                    dict(model=dict(backbone=dict(positions='size_antialias', decoder=dict(head=1))))
                )
            model = config.model
            model.clip = deep_clip
            model.decode_head.update(
                vocabulary=VOCABULARIES[case],
                background_index=0 if case == 'bg' else None,
                redundancy_thd=0.15 if case == 'bg' else 0.1,
            )
            model.test_cfg.update(test_cfg)
            kept[key] = MODELS.build(model).eval()
        return kept[key]

    return build


def mini_config(clip, attention=None, **head):
    """A model with the small CLIP."""
    model = Config.fromfile(MODELS_FOLDER / 'freecp_sclip.py').model.to_dict()
    model['clip'] = clip
    model['backbone']['decoder']['decoder'].update({} if attention is None else dict(attention=attention))
    model['decode_head'].update(templates='simple', **head)
    model['test_cfg'].update(crop_size=(64, 64), stride=(32, 32))
    return model


@MODELS.register_module()
class TwoPasses(Attention):
    """CLIP's own attention, twice."""

    passes = 2

    def terms(self, b):
        self.feedback = b.feedback
        return [b.q @ b.k.transpose(-1, -2) * b.scale]


@pytest.mark.parametrize('tower, size', CASES, ids=str)
def test_windows_of_the_official_code(build, pixels, tower, size):
    name = f'{size[0]}x{size[1]}'
    with torch.no_grad():
        tokens = build(tower).encode(pixels(*size)[None])
    ours = tokens.patches[0, :: SIZES[size]].numpy()
    np.testing.assert_allclose(ours, GOLDENS[f'freecp/tokens/{tower}/{name}'], atol=5e-5)
    for case in VOCABULARIES:
        model, key = build(tower, case), f'freecp/{tower}/{case}'
        model.decode_head.text_bank = torch.from_numpy(GOLDENS[f'freecp/text/{tower}/{name}'])
        with torch.no_grad():
            foreground = model.decode_head.foreground
            scale = model.source.logit_scale()
            assert scale == pytest.approx(np.exp(4.6015625))  # the recipe's 4.6 in half precision
            probabilities = (scale * model.decode_head.cosines(tokens)).softmax(dim=1)
            purified = purify(probabilities, foreground, tokens.affinity)
            maps = model.decode_head(tokens)
            large = model.decode_head.enlarge(maps, size)[0, :, 7::16, 7::16]
        step = 1 if name == '224x224' else 2
        assert (purified.boxes[0].numpy() == GOLDENS[f'{key}/boxmask/{name}']).all()
        refined = purified.refined[0, :, ::step, ::step].numpy()
        np.testing.assert_allclose(refined, GOLDENS[f'{key}/refined/{name}'], atol=1e-4)
        np.testing.assert_allclose(purified.agreement[0].numpy(), GOLDENS[f'{key}/iou/{name}'], atol=1e-5)
        kept = maps[0, foreground].flatten(1).any(dim=1).nonzero().flatten()
        assert kept.tolist() == GOLDENS[f'{key}/kept/{name}'].tolist()
        np.testing.assert_allclose(large.numpy(), GOLDENS[f'{key}/out/{name}'], atol=1e-4)


@pytest.mark.parametrize('case', VOCABULARIES)
def test_label_maps_of_the_official_code(build, pixels, case):
    model = build('ClearCLIP', case, keep_scores=True)
    model.decode_head.text_bank = torch.from_numpy(GOLDENS['freecp/text/ClearCLIP/336x448'])
    sample = SegDataSample(metainfo=dict(ori_shape=(375, 500)))
    with torch.no_grad():
        model.predict([pixels(336, 448)], [sample])
    key = f'freecp/ClearCLIP/{case}/e2e'
    np.testing.assert_allclose(sample.seg_logits.data[:, 7::16, 7::16], GOLDENS[f'{key}/prob'], atol=5e-4)
    assert (sample.pred_sem_seg.data[0].numpy() == GOLDENS[f'{key}/pred']).mean() >= 0.9999


def naive_purify(probabilities, foreground, affinity):
    """One image, one query and one patch after the other: boxes, refined maps and agreement of NEWER's formulas."""
    _, height, width = probabilities.shape
    maps = (probabilities - probabilities.min()) / (probabilities.max() - probabilities.min())
    for _ in range(3):
        affinity = affinity / affinity.sum(0)
        affinity = affinity / affinity.sum(1)[:, None]
    affinity = (affinity + affinity.T) / 2
    affinity = np.linalg.matrix_power(affinity, 2)
    boxes, refined, agreement = [], [], []
    for query in np.flatnonzero(foreground):
        picture = (255 * maps[query]).astype(np.float32).astype(np.uint8)
        (box,) = fill_boxes(torch.from_numpy(picture > int(0.4 * picture.max()))[None]).numpy()
        spread = np.zeros(height * width)
        for i in range(height * width):
            for j in range(height * width):
                spread[i] += affinity[i, j] * (box * maps[query]).flat[j]
        spread = ((spread - spread.min()) / (spread.max() - spread.min() + 1e-8)).reshape(height, width)
        p = probabilities[query]
        boxes.append(box)
        refined.append(spread)
        agreement.append((p * spread).sum() / (p.sum() + spread.sum() + 1e-8))
    return boxes, refined, agreement


def test_purification_of_two_images_against_loops():
    torch.manual_seed(0)
    probabilities = (4 * torch.randn(2, 5, 6, 4, dtype=torch.float64)).softmax(dim=1)
    affinity = torch.randn(2, 24, 24, dtype=torch.float64).softmax(dim=2)
    foreground = torch.tensor([False, True, True, True, False])
    ours = purify(probabilities, foreground, affinity)
    for i in range(2):
        boxes, refined, agreement = naive_purify(probabilities[i].numpy(), foreground, affinity[i].numpy())
        assert (ours.boxes[i].numpy() == boxes).all()
        np.testing.assert_allclose(ours.refined[i], refined, atol=1e-10)
        np.testing.assert_allclose(ours.agreement[i], agreement, atol=1e-10)


def test_a_flat_window_has_no_class():
    flat = purify(torch.full((1, 1, 3, 4), 1.0), torch.tensor([True]), torch.full((1, 12, 12), 1 / 12))
    assert not flat.boxes.any() and flat.refined.abs().max() == 0 and flat.agreement.item() == 0


def test_images_do_not_look_at_each_other(build, pixels):
    model = build('SCLIP', 'bg')
    model.decode_head.text_bank = torch.from_numpy(GOLDENS['freecp/text/SCLIP/160x224'])
    images = torch.stack([pixels(160, 224), pixels(160, 224).flip(2)])
    with torch.no_grad():
        together = model._forward(images)
        alone = torch.cat([model._forward(image[None]) for image in images])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=0)
    assert (together[0] - together[1]).abs().max() > 0.1


def test_the_background_is_what_no_class_claims(mini_clip):
    config = mini_config(mini_clip, vocabulary=['cat', ['sky', 'wall'], ['dog', 'puppy']], background_index=1)
    model = MODELS.build(config).eval()
    assert model.decode_head.foreground.tolist() == [True, False, False, True, True]
    patches = torch.tensor([0.3, 0, 0, 0.2, 0.6])[:, None].expand(2, 5, 2)
    image, sample = torch.zeros(3, 2, 2), SegDataSample(metainfo=dict(ori_shape=(2, 2)))
    scores = PixelScores(patches, torch.eye(2), torch.eye(2))
    torch.testing.assert_close(
        model.class_scores(scores, image, sample).band(0, 2)[:, 0, 0], torch.tensor([0.3, 0.4, 0.6])
    )
    model.label(PixelScores(patches / 2, torch.eye(2), torch.eye(2)), image, sample)
    assert sample.pred_sem_seg.data.unique().tolist() == [1]


def test_a_phrase_of_two_classes_has_a_map_in_each(mini_clip):
    twice = MODELS.build(mini_config(mini_clip, vocabulary=[['sky', 'bed'], 'cat', 'bed'], background_index=0)).eval()
    image = torch.randn(1, 3, 64, 80)
    with torch.no_grad():
        (scores,) = twice.score(image, [SegDataSample(metainfo=dict(ori_shape=(64, 80)))])
        maps = twice._forward(image)
    assert maps.shape[1] == scores.shape[0] == 4
    assert maps[0, 1].abs().max() == 0 and maps[0, 3].max() > 0.999
    torch.testing.assert_close(scores.peaks(), maps.amax(dim=(0, 2, 3)))


def test_between_the_passes_of_a_decoder_are_cosines(mini_clip):
    attention = dict(type='TwoPasses')
    model = MODELS.build(mini_config(mini_clip, attention=attention, vocabulary=['cat', 'dog'])).eval()
    backbone, images = model.backbone, torch.randn(2, 3, 64, 48)
    with torch.no_grad():
        maps = model._forward(images)
        scores = backbone.decoder.attention.feedback.scores
        tokens = backbone.decoder.decoder(backbone.tower, backbone.record(images))
    assert backbone.passes == 2 and maps.min() == 0
    torch.testing.assert_close(scores, model.decode_head.query_cosines(tokens))


def test_the_affinity_is_the_attention_of_the_blocks_before_the_last(mini_clip):
    model = MODELS.build(mini_config(mini_clip, vocabulary=['cat', 'dog'])).eval()
    decoder, images = model.backbone.decoder, torch.randn(2, 3, 48, 64)
    with torch.no_grad():
        affinity = model.encode(images).affinity
        tower = ClipSource(**mini_clip).visual.transformer
        x, expected = model.backbone.tower.embed(images)[0], 0
        for block in tower.resblocks[:2]:
            y = block.ln_1(x)
            expected = expected + block.attn(y, y, y, need_weights=True)[1][:, 1:, 1:] / 2
            x = block(x)
        torch.testing.assert_close(affinity, expected, atol=1e-6, rtol=0)
        # The attention can be exchanged as that of any decoder.
        decoder.attention = MODELS.build(dict(type='IdentityAttention'))
        decoder.bind(model.backbone.tower)
        assert decoder.decoder.attention is decoder.attention and decoder.needs == {0, 1, 2}
        torch.testing.assert_close(model.encode(images).affinity, affinity)


@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(test_cfg=dict(logit_scale=40)), 'are class scores already, but model.test_cfg.logit_scale is 40'),
        (dict(backbone=dict(decoder=dict(head=3))), 'backbone.decoder.head is 3'),
        (
            dict(decode_head=dict(type='TextSimilarityHead')),
            'logit_scale is None, but the scores of TextSimilarityHead',
        ),
    ],
)
def test_wrong_settings(mini_clip, changes, message):
    config = Config(dict(model=mini_config(mini_clip, vocabulary=['cat', 'dog'])))
    config.merge_from_dict(dict(model=changes))
    if 'type' in changes.get('decode_head', {}):
        del config.model.decode_head.redundancy_thd
    with pytest.raises(ConfigError, match=message):
        MODELS.build(config.model)


def test_a_decoder_without_affinity_is_refused(mini_clip):
    config = mini_config(mini_clip, vocabulary=['cat', 'dog'])
    config['backbone']['decoder'] = dict(type='LastBlock', attention=dict(type='VanillaSelfAttention'))
    with pytest.raises(ConfigError, match=r"decoder=dict\(type='WithMeanAttention'"):
        MODELS.build(config)._forward(torch.randn(1, 3, 48, 48))
    with pytest.raises(ConfigError, match='has no class but the background'):
        MODELS.build(mini_config(mini_clip, vocabulary=['sky'], background_index=0))._forward(torch.zeros(1, 3, 48, 48))


def test_own_words_with_a_background_keep_the_rule_of_the_head(tmp_path):
    bases = [str(MODELS_FOLDER / 'freecp_sclip.py'), str(MODELS_FOLDER.parent / 'datasets' / 'demo.py')]
    (tmp_path / 'mine.py').write_text(f'_base_ = {bases}')
    assert thresholds(True, tmp_path / 'mine.py', None) == dict(logit_scale=None, prob_thd=None, area_thd=None)
