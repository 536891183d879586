"""The CRF: its energies and image through a stand-in for the library, and the library itself where it is installed."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from mmseg_sclip.errors import ConfigError
from mmseg_sclip.models.refinements import DenseCRF


class Field:
    """Records what the library is given, and answers with the unary's probabilities, classes reversed."""

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


@pytest.fixture
def library(monkeypatch):
    package, module = ModuleType('pydensecrf'), ModuleType('pydensecrf.densecrf')
    module.DenseCRF2D = Field
    monkeypatch.setitem(sys.modules, 'pydensecrf', package)
    monkeypatch.setitem(sys.modules, 'pydensecrf.densecrf', module)
    Field.made.clear()


def test_scores_that_are_all_zero_are_alike(library):
    crf = DenseCRF()
    unit = torch.ones(3, 1, 1)
    crf.bind(SimpleNamespace(data_preprocessor=SimpleNamespace(mean=unit, std=unit)))
    crf(torch.tensor([[[0.0, 0.9]], [[0.0, 0.1]]]), torch.zeros(3, 1, 2))
    (field,) = Field.made
    assert np.isfinite(field.unary).all() and field.unary[0, 0] == field.unary[1, 0]
    np.testing.assert_allclose(np.exp(-field.unary[:, 1]), [0.9, 0.1], rtol=1e-6)


def test_what_the_library_is_given(library):
    probabilities = torch.tensor([[[0.2, 0.6]], [[0.2, 0.2]]])  # two classes, one row of two pixels
    rgb = torch.tensor([[[300.0, 10.4]], [[-5.0, 20.6]], [[7.0, 30.0]]])
    mean, std = torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1), torch.tensor([4.0, 5.0, 6.0]).view(3, 1, 1)
    crf = DenseCRF(steps=4)
    crf.bind(SimpleNamespace(data_preprocessor=SimpleNamespace(mean=mean, std=std)))
    refined = crf(probabilities, (rgb - mean) / std)
    (field,) = Field.made
    assert (field.size, field.steps) == ((2, 1, 2), 4)
    np.testing.assert_allclose(np.exp(-field.unary), [[0.5, 0.75], [0.5, 0.25]], rtol=1e-6)
    assert field.bilateral['rgbim'].tolist() == [[[255, 0, 7], [10, 21, 30]]]
    assert (field.gaussian, field.bilateral['sxy'], field.bilateral['srgb'], field.bilateral['compat']) == (
        dict(sxy=1.0, compat=3.0),
        67.0,
        3.0,
        4.0,
    )
    torch.testing.assert_close(refined, torch.tensor([[[0.5, 0.25]], [[0.5, 0.75]]]))


def test_it_refines_in_the_segmentor_with_the_colours_of_the_file(library, mini_clip):
    from mmseg.registry import MODELS

    config = dict(
        type='SCLIPSegmentor',
        clip=mini_clip,
        backbone=dict(type='CLIPVisionTransformer'),
        decode_head=dict(type='TextSimilarityHead', vocabulary=['cat', 'dog'], templates='simple'),
        test_cfg=dict(mode='whole', refine=[dict(type='DenseCRF', steps=2)], keep_scores=True),
    )
    model = MODELS.build(config).eval()
    image = torch.randint(0, 256, (3, 40, 56), dtype=torch.uint8)  # BGR
    with torch.no_grad():
        (refined,) = model.test_step(dict(inputs=[image]))
        model.test_cfg.refine = []
        (plain,) = model.test_step(dict(inputs=[image]))
    assert np.array_equal(Field.made[0].bilateral['rgbim'], image.flip(0).permute(1, 2, 0).numpy())
    torch.testing.assert_close(refined.seg_logits.data, plain.seg_logits.data.flip(0))
    assert torch.equal(refined.pred_sem_seg.data, 1 - plain.pred_sem_seg.data)


def test_a_missing_library_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, 'pydensecrf.densecrf', None)
    with pytest.raises(ConfigError, match='mmseg_sclip.crf'):
        DenseCRF()
