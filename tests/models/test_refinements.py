"""PAMR against its official outputs and its formula, the dense CRF through a stand-in, and the seam of both."""

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from helpers import build, sample
from mmseg.registry import MODELS
from torch.nn import functional as F

from mmseg_sclip.errors import ConfigError
from mmseg_sclip.models import Refinement
from mmseg_sclip.models.image.geometry import Placement, image_axes
from mmseg_sclip.models.image.postprocess import best_of_class
from mmseg_sclip.models.image.scores import InputScores, PixelScores, whole
from mmseg_sclip.models.refinements import PAMR, DenseCRF, pamr
from mmseg_sclip.models.refinements.base import ImageView

GOLDENS = np.load(Path(__file__).parents[1] / 'data' / 'family_seed0.npz')


@pytest.mark.parametrize('key, steps, dilations', [('t10_d8-16', 10, (8, 16)), ('t3_d1-2-4', 3, (1, 2, 4))])
def test_official_outputs_of_pamr(recipe, device, key, steps, dilations):
    masks = torch.from_numpy(np.random.RandomState(5).uniform(-1, 1, (6, 60, 80)).astype(np.float32)).to(device)
    image = (recipe.image(140, 60, 80)[..., ::-1] - (122.771, 116.746, 104.094)) / (68.501, 66.632, 70.323)
    image, before = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1).to(device), masks.clone()
    refined = PAMR(steps, dilations)(masks, image)
    np.testing.assert_allclose(refined.cpu().numpy(), GOLDENS[f'pamr/{key}'], atol=5e-6)
    assert torch.equal(pamr(image, masks, steps, dilations, chunk=4), refined) and torch.equal(masks, before)
    with torch.autocast(device.type, torch.bfloat16):
        assert torch.equal(PAMR(steps, dilations)(masks, image), refined)


def naive(image, masks, steps, dilations):
    _, height, width = image.shape

    def at(x, row, col):
        return x[:, min(max(row, 0), height - 1), min(max(col, 0), width - 1)]

    for _ in range(steps):
        new = np.zeros_like(masks)
        for row in range(height):
            for col in range(width):
                stencil = [(row + d * dy, col + d * dx) for d in dilations for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
                sigma = np.std([at(image, *place) for place in stencil], axis=0, ddof=1)
                around = [place for place in stencil if place != (row, col)]
                logits = [
                    np.mean(-np.abs(image[:, row, col] - at(image, *place)) / (1e-8 + 0.1 * sigma)) for place in around
                ]
                weights = np.exp(logits - np.max(logits))
                for weight, place in zip(weights / weights.sum(), around, strict=True):
                    new[:, row, col] += weight * at(masks, *place)
        masks = new
    return masks


@pytest.mark.parametrize('dilations', [(1,), (2, 9)])
def test_pamr_pixel_by_pixel_also_where_the_image_is_flat(dilations):
    rng = np.random.default_rng(0)
    image, masks = rng.standard_normal((3, 5, 7)), rng.standard_normal((2, 5, 7))
    for picture in (image, np.full_like(image, 0.3)):
        refined = pamr(torch.from_numpy(picture), torch.from_numpy(masks), 2, dilations)
        np.testing.assert_allclose(refined.numpy(), naive(picture, masks, 2, dilations), atol=1e-5)
    assert (PAMR().stage, PAMR().steps, PAMR().dilations) == ('cosines', 10, (8, 16))
    assert PAMR(steps=0)(masks, None) is masks


class Field:
    """Records what the library of the CRF is given, and answers with the unary's probabilities, classes reversed."""

    made = []

    def __init__(self, width, height, classes):
        self.size = (width, height, classes)
        self.made.append(self)

    def setUnaryEnergy(self, unary):  # noqa: N802  the library's name
        self.unary = unary

    def addPairwiseGaussian(self, **kernel):  # noqa: N802
        self.gaussian = kernel

    def addPairwiseBilateral(self, **kernel):  # noqa: N802
        self.bilateral = kernel

    def inference(self, steps):
        self.steps = steps
        return np.exp(-self.unary)[::-1].copy()


@torch.no_grad()
def test_what_the_library_of_the_crf_is_given_with_the_colours_of_the_file(source, monkeypatch):
    package, module = ModuleType('pydensecrf'), ModuleType('pydensecrf.densecrf')
    module.DenseCRF2D = Field
    for name, stand_in in (('pydensecrf', package), ('pydensecrf.densecrf', module)):
        monkeypatch.setitem(sys.modules, name, stand_in)
    Field.made.clear()
    model = build(source, mode='whole', refine=[dict(type='DenseCRF', steps=2)], keep_scores=True)
    image = torch.randint(0, 256, (3, 40, 56), dtype=torch.uint8)  # BGR
    (refined,) = model.test_step(dict(inputs=[image]))
    model.test_cfg.refine = []
    (plain,) = model.test_step(dict(inputs=[image]))
    (field,) = Field.made
    assert (field.size, field.steps) == ((56, 40, 3), 2)
    assert np.array_equal(field.bilateral.pop('rgbim'), image.flip(0).permute(1, 2, 0).numpy())
    assert (field.gaussian, field.bilateral) == (dict(sxy=1.0, compat=3.0), dict(sxy=67.0, srgb=3.0, compat=4.0))
    probabilities = plain.seg_logits.data / plain.seg_logits.data.sum(0)
    np.testing.assert_allclose(np.exp(-field.unary), probabilities.flatten(1), rtol=1e-5)
    torch.testing.assert_close(refined.seg_logits.data, probabilities.flip(0))
    zero = torch.tensor([[[0.0, 0.9]], [[0.0, 0.1]]])  # where all scores are 0, they are alike
    view = ImageView(torch.zeros(3, 1, 2), None, model.data_preprocessor, None)
    torch.testing.assert_close(DenseCRF().refine(zero, view)[:, 0, 1], torch.tensor([0.1, 0.9]))
    assert np.isfinite(Field.made[1].unary).all() and Field.made[1].unary[0, 0] == Field.made[1].unary[1, 0]
    monkeypatch.setitem(sys.modules, 'pydensecrf.densecrf', None)
    with pytest.raises(ConfigError, match='mmseg_sclip.crf'):
        DenseCRF()


@MODELS.register_module()
class ToyRefinement(Refinement):
    def __init__(self, stage='cosines', factor=1.0, last=False):
        super().__init__()
        self.stage, self.factor, self.last, self.needs = stage, factor, last, frozenset({-1})

    def look(self, record):
        return record.images[:, 0] * self.factor  # what one window is seen as

    def refine(self, scores, view):
        self.seen = view.seen
        assert scores.shape[1:] == view.image.shape[1:] == (50, 70)
        return (scores + 0.01) * self.factor


@torch.no_grad()
def test_refinements_run_in_their_order_at_their_stage_and_see_an_image_of_one_window(source):
    image, model = torch.randn(3, 64, 96), build(source, keep_scores=True)
    assert 3 not in model.needs
    cosines = -((whole(model.score([image], [sample((50, 70))])[0]) + 0.01) * 0.5 + 0.01)
    expected = (best_of_class((cosines * 40).softmax(0), (2, 1, 1)) + 0.01) * 3
    entries = [('class scores', 3.0), ('cosines', 0.5), ('cosines', -1.0)]
    model.test_cfg.refine = [dict(type='ToyRefinement', stage=stage, factor=factor) for stage, factor in entries]
    (result,) = model.predict([image], [sample((50, 70))])
    torch.testing.assert_close(result.seg_logits.data, expected, atol=1e-5, rtol=0)
    assert 3 in model.needs and [refinement.seen for refinement in model.refinements] == [None] * 3
    model.test_cfg.mode = 'whole'
    model.predict([image], [sample((50, 70))])
    for refinement, (_, factor) in zip(model.refinements, entries, strict=True):
        assert torch.equal(refinement.seen, image[0] * factor)
    model.test_cfg.refine[1]['last'] = True  # another one of its stage follows
    with pytest.raises(ConfigError, match='ToyRefinement must be the last entry .* that works on cosines'):
        model.predict([image])
    model.test_cfg.refine.pop()
    model.predict([image], [sample((50, 70))])


@MODELS.register_module()
class AtInput(Refinement):
    at_input = True

    def refine(self, scores, view):
        return (scores + 1) ** 2 * (1 + view.image[:1].abs())


@MODELS.register_module()
class Relabel(Refinement):
    stage = 'labels'

    def relabel(self, labels, source, model):
        return torch.where(labels == source.meta['wrong'], 1, labels)


@torch.no_grad()
def test_refinements_at_the_size_of_the_input_and_of_labels(source):
    image, meta = torch.randn(3, 64, 96), dict(flip=True, flip_direction='horizontal', padding_size=(0, 6, 0, 4))
    plain, one = build(source), sample((50, 60), wrong=2, **meta)
    model = build(source, refine=[dict(type='AtInput'), dict(type='Relabel')])
    cosines = plain.slide_inference(image[None], [dict(ori_shape=(64, 96))])[0]
    refined = ((cosines + 1) ** 2 * (1 + image[:1].abs()))[:, :60, :90].flip(2)
    expected = F.interpolate(refined[None], (50, 60), mode='bilinear')[0]
    (scores,) = model.score([image], [one])
    torch.testing.assert_close(whole(model.refine_cosines(scores, image, one)), expected, atol=1e-4, rtol=0)
    labels = best_of_class(expected, model.decode_head.vocabulary.sizes).argmax(dim=0)
    found = model.label(scores, image, one).pred_sem_seg.data[0]
    assert (labels == 2).any() and (found == torch.where(labels == 2, 1, labels)).float().mean() > 0.999
    with pytest.raises(ConfigError, match="AtInput works at the size of the network's input, so it must stand"):
        build(source, refine=[dict(type='PAMR'), dict(type='AtInput')])


@torch.no_grad()
def test_refined_phrases_of_two_classes_stay_equal(source):
    head, image = dict(vocabulary=['dog', ['tree', 'bed'], 'bed'], background_index=None), torch.randn(3, 64, 96)
    model = build(source, head=head, keep_scores=True, refine=[dict(type='PAMR', steps=2, dilations=(1, 3))])
    (scores,) = model.score([image], [sample((50, 70))])
    cosines = pamr(F.interpolate(image[None], (50, 70), mode='bilinear')[0], whole(scores), 2, (1, 3))
    (result,) = model.predict([image], [sample((50, 70))])
    expected = best_of_class((cosines * 40).softmax(0), (1, 2, 1))
    torch.testing.assert_close(result.seg_logits.data, expected, atol=1e-4, rtol=0)
    refined = whole(model.refine_cosines(scores, image, sample((50, 70))))
    assert torch.equal(refined[2], refined[3])


def test_what_a_view_shows(source):
    preprocessor = build(source).data_preprocessor
    pixels = torch.tensor([[[300.0, 10.4]], [[-5.0, 20.6]], [[7.0, 30.0]]])
    placement = Placement(image_axes((32, 48), dict(ori_shape=(20, 31))), (None, None))
    view = ImageView((pixels - preprocessor.mean) / preprocessor.std, None, preprocessor, placement)
    assert view.rgb.tolist() == [[[255, 10]], [[0, 21]], [[7, 30]]] and view.rgb.dtype == torch.uint8
    maps = torch.randn(5, 2, 3)
    assert torch.equal(view.best_at_pixels(maps), F.interpolate(maps[None], (20, 31), mode='bilinear')[0].argmax(0))


@pytest.mark.parametrize('meta', [{}, dict(padding_size=(3, 5, 0, 7)), dict(flip=True, flip_direction='horizontal')])
def test_maps_at_the_size_of_the_input_go_to_the_original_size_without_products_with_zeros(meta):
    axes = image_axes((60, 150), dict(ori_shape=(71, 300), **meta))
    matrices = Placement(axes, (((0, 60),), ((0, 150),))).matrices((60, 150))
    maps = torch.randn(60, 4, 150)
    expected, found = (cls(maps, *matrices) for cls in (PixelScores, InputScores))
    for first, last in ((0, 71), (11, 12), (64, 71)):
        torch.testing.assert_close(found.band(first, last), expected.band(first, last), atol=1e-5, rtol=0)
