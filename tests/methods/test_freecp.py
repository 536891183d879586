"""FreeCP's redundancy purification: the official code's outputs, and naive second implementations."""

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import sample
from mmengine.config import Config
from mmseg.registry import MODELS
from torch.nn import functional as F

from mmseg_sclip.apis.settings import thresholds
from mmseg_sclip.errors import ConfigError
from mmseg_sclip.models import Attention, Tokens
from mmseg_sclip.models.clip import ClipSource
from mmseg_sclip.models.image.scores import PixelScores
from mmseg_sclip.models.methods.freecp.components import fill_boxes
from mmseg_sclip.models.methods.freecp.head import purify

ROOT = Path(__file__).resolve().parents[2]
MODELS_FOLDER = ROOT / 'configs' / '_base_' / 'models'
GOLDENS = np.load(ROOT / 'tests' / 'data' / 'newer_seed0.npz')
SIZES = {(224, 224): 1, (160, 224): 3, (336, 336): 5, (336, 448): 5}  # every so many tokens are stored
CLASSES = [f'class {i}' for i in range(7)]
VOCABULARIES = dict(nobg=(CLASSES, None, 0.1), bg=([CLASSES[:2], *CLASSES[2:]], 0, 0.15))
DECODER = 'backbone.decoder'
TOWERS = {
    'SCLIP': {},
    'ClearCLIP': {f'{DECODER}.attention.projections': 'q', f'{DECODER}.ffn': False},
    'MaskCLIP': {f'{DECODER}.attention': dict(_delete_=True, type='IdentityAttention')},
    # Whose official wrapper averages over the batch in place of the heads.
    'GEM': {
        DECODER: {**Config.fromfile(MODELS_FOLDER / 'gem.py').model.backbone.decoder.to_dict(), '_delete_': True},
        'backbone.positions': 'size_antialias',
        'decode_head.affinity.head': 1,
    },
}
CASES = [
    pytest.param(tower, size, marks=[pytest.mark.slow] if tower != 'SCLIP' and size[0] == 336 else [])
    for tower in TOWERS
    for size in SIZES
    if f'freecp/tokens/{tower}/{size[0]}x{size[1]}' in GOLDENS
]


@pytest.fixture
def build(build_method):
    """`build('SCLIP', 'bg', GOLDENS['freecp/text/...'])` is the shipped model on that tower and those classes."""

    def build(tower, case, text=None):
        vocabulary, background, threshold = VOCABULARIES[case]
        options = {**TOWERS[tower], 'decode_head.redundancy_thd': threshold}
        more = {} if text is None else dict(text=text)
        return build_method('freecp_sclip', options, vocabulary, background, **more)

    return build


@pytest.mark.parametrize('tower, size', CASES, ids=str)
@torch.no_grad()
def test_windows_of_the_official_code(build, pixels, tower, size):
    name, scale = f'{size[0]}x{size[1]}', np.exp(4.6015625)  # the recipe's 4.6 in half precision
    for case in VOCABULARIES:
        model, key = build(tower, case, GOLDENS[f'freecp/text/{tower}/{name}']), f'freecp/{tower}/{case}'
        head, foreground = model.decode_head, model.decode_head.foreground
        tokens = model.encode(pixels(*size)[None])
        if case == 'nobg':
            ours = tokens.patches[0, :: SIZES[size]].numpy()
            np.testing.assert_allclose(ours, GOLDENS[f'freecp/tokens/{tower}/{name}'], atol=5e-5)
        probabilities = (scale * head.cosines(tokens)).softmax(dim=1)
        purified = purify(probabilities, foreground, tokens.record.once(head.affinity))
        maps = head(tokens)
        large = head.enlarge(maps, size)[0, :, 7::16, 7::16]
        step = 1 if name == '224x224' else 2
        assert (purified.boxes[0].numpy() == GOLDENS[f'{key}/boxmask/{name}']).all()
        refined = purified.refined[0, :, ::step, ::step].numpy()
        np.testing.assert_allclose(refined, GOLDENS[f'{key}/refined/{name}'], atol=1e-4)
        np.testing.assert_allclose(purified.agreement[0].numpy(), GOLDENS[f'{key}/iou/{name}'], atol=1e-5)
        kept = maps[0, foreground].flatten(1).any(dim=1).nonzero().flatten()
        assert kept.tolist() == GOLDENS[f'{key}/kept/{name}'].tolist()
        np.testing.assert_allclose(large.numpy(), GOLDENS[f'{key}/out/{name}'], atol=1e-4)


@pytest.mark.parametrize('case', VOCABULARIES)
def test_label_maps_of_the_official_code(build, pixels, predict, case):
    model, key = build('ClearCLIP', case, GOLDENS['freecp/text/ClearCLIP/336x448']), f'freecp/ClearCLIP/{case}/e2e'
    labels, scores = predict(model, pixels(336, 448), (375, 500))
    np.testing.assert_allclose(scores, GOLDENS[f'{key}/prob'], atol=5e-4)
    assert (labels == GOLDENS[f'{key}/pred']).mean() >= 0.9999


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


@torch.no_grad()
def test_scale_and_box_threshold_of_the_config(build_method):
    torch.manual_seed(0)
    bank, patches = F.normalize(torch.randn(3, 64), dim=-1), torch.randn(2, 20, 64)
    affinity = torch.rand(2, 20, 20).softmax(-1)
    tokens = Tokens(patches, None, (4, 5), record=SimpleNamespace(once=lambda part: affinity))
    cosines = (F.normalize(patches, dim=-1) @ bank.T).transpose(1, 2).unflatten(2, (4, 5))
    found = []
    for scale, thd in [(5, 0.4), (5, 0.9), (40, 0.4), (None, 0.4)]:
        options = {'scale': scale, 'box_thd': thd, 'redundancy_thd': 0}
        options = {f'decode_head.{key}': value for key, value in options.items()}
        head = build_method('freecp_sclip', options, ['cat', 'dog', 'tree'], text=bank.numpy()).decode_head
        found.append(head(tokens))
        factor = math.exp(4.6015625) if scale is None else scale  # the recipe's 4.6 in half precision
        expected = purify((factor * cosines).softmax(1), torch.ones(3, dtype=torch.bool), affinity, thd)
        expected = expected.refined * (expected.agreement > 0)[..., None, None]
        torch.testing.assert_close(found[-1], expected, atol=1e-4, rtol=0)
    for i, j in [(0, 1), (0, 2), (2, 3)]:
        assert (found[i] - found[j]).abs().max() > 0.01


def test_the_background_is_what_no_class_claims(build_method):
    model = build_method('freecp_sclip', {}, ['cat', ['sky', 'wall'], ['dog', 'puppy']], 1)
    assert model.decode_head.foreground.tolist() == [True, False, False, True, True]
    patches = torch.tensor([0.3, 0, 0, 0.2, 0.6])[:, None].expand(2, 5, 2)
    image, result = torch.zeros(3, 2, 2), sample((2, 2))
    scores = model.class_scores(PixelScores(patches, torch.eye(2), torch.eye(2)), image, result)
    torch.testing.assert_close(scores.band(0, 2)[:, 0, 0], torch.tensor([0.3, 0.4, 0.6]))
    model.label(PixelScores(patches / 2, torch.eye(2), torch.eye(2)), image, result)
    assert result.pred_sem_seg.data.unique().tolist() == [1]
    with pytest.raises(ConfigError, match='has no class but the background'):
        _ = build_method('freecp_sclip', {}, ['sky'], 0).decode_head.foreground


@torch.no_grad()
def test_a_phrase_of_two_classes_has_a_map_in_each(build_method, pixels, family):
    model = build_method('freecp_sclip', {}, [['sky', 'bed'], 'cat', 'bed'], 0, family['text'][:3])
    image = pixels(96, 160)[None]
    (scores,), maps = model.score(image, [sample((96, 160))]), model._forward(image)
    assert maps.shape[1] == scores.shape[0] == 4
    assert maps[0, 1].abs().max() == 0 and maps[0, 3].max() > 0.999
    torch.testing.assert_close(scores.peaks(), maps.amax(dim=(0, 2, 3)))


@MODELS.register_module()
class TwoPasses(Attention):
    """CLIP's own attention, twice."""

    passes = 2

    def terms(self, b):
        self.feedback = b.feedback
        return [b.q @ b.k.transpose(-1, -2) * b.scale]


@torch.no_grad()
def test_between_the_passes_of_a_decoder_are_cosines(build_method, wide):
    model = build_method('freecp_sclip', {f'{DECODER}.attention': dict(_delete_=True, type='TwoPasses')})
    decoder = model.backbone.decoder
    assert model.backbone.passes == 2 and model._forward(wide).min() == 0
    scores = decoder.attention.feedback.scores
    tokens = decoder(model.backbone.record(wide))
    torch.testing.assert_close(scores, model.decode_head.query_cosines(tokens))


@torch.no_grad()
def test_the_affinity_is_the_attention_of_the_blocks_before_the_last(build_method, deep_clip, wide):
    tokens, expected, first = build_method('freecp_sclip').encode(wide), 0, 0
    x = tokens.record.tower.embed(wide)[0]
    for block in ClipSource(**deep_clip).visual.transformer.resblocks[:11]:
        y = block.ln_1(x)
        weights = block.attn(y, y, y, need_weights=True, average_attn_weights=False)[1][..., 1:, 1:]
        expected, first = expected + weights.mean(1) / 11, first + weights[:, 0] / 11
        x = block(x)
    for head, theirs in ((None, expected), (1, first)):
        model = build_method('freecp_sclip', {'decode_head.affinity.head': head})
        ours = model.encode(wide).record.once(model.decode_head.affinity)
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)
    with pytest.raises(ConfigError, match='affinity.head is 3'):
        build_method('freecp_sclip', {'decode_head.affinity.head': 3})


def test_scores_that_do_not_fit_the_settings(build_method):
    with pytest.raises(ConfigError, match='are class scores already, but model.test_cfg.logit_scale is 40'):
        build_method('freecp_sclip', {'test_cfg.logit_scale': 40})
    with pytest.raises(ConfigError, match='logit_scale is None, but the scores of TextSimilarityHead'):
        build_method('sclip', {'test_cfg.logit_scale': None})


def test_own_words_with_a_background_keep_the_rule_of_the_head(tmp_path):
    bases = [str(MODELS_FOLDER / 'freecp_sclip.py'), str(MODELS_FOLDER.parent / 'datasets' / 'demo.py')]
    (tmp_path / 'mine.py').write_text(f'_base_ = {bases}')
    assert thresholds(True, tmp_path / 'mine.py', None) == dict(logit_scale=None, prob_thd=None, area_thd=None)
