"""Colours of classes."""

import numpy as np
import pytest

from mmseg_sclip.datasets import PaintedScenesDataset
from mmseg_sclip.datasets.palette import BLACK, classes_of, distinct_palette
from mmseg_sclip.errors import ConfigError


def test_a_class_keeps_its_colour_when_others_come():
    few, many = distinct_palette(3), distinct_palette(100)
    for count, least in ((2, 250), (9, 130), (21, 90), (60, 40), (256, 20)):  # summed over red, green, blue
        colours = np.array(distinct_palette(count, background_index=0))
        apart = np.abs(colours[:, None] - colours).sum(-1) + 10**9 * np.eye(count)
        assert tuple(colours[0]) == BLACK and apart.min() > least
    assert few == many[:3] == distinct_palette(4, background_index=0)[1:]
    assert distinct_palette(4, background_index=2) == [*many[:2], BLACK, many[2]]
    assert all(type(value) is int for colour in many for value in colour)
    assert distinct_palette(300)[256:] == many[:44]


MODEL = dict(classes=['a', 'b', 'c'], palette=[[1, 1, 1], [2, 2, 2], [3, 3, 3]])
SCENES = PaintedScenesDataset.METAINFO


ONE = dict(type='BaseSegDataset', metainfo=dict(classes=['x']))
OWN = dict(type='BaseSegDataset', metainfo=dict(classes=['x', 'y', 'z']))
PART = dict(type='PaintedScenesDataset', metainfo=dict(classes=['water', 'grass']))
COLOURED = dict(type='PaintedScenesDataset', metainfo=dict(classes=['x', 'y'], palette=[[1, 2, 3], [4, 5, 6]]))
SCENE = dict(type='PaintedScenesDataset')


@pytest.mark.parametrize(
    'dataset, model, names, colours',
    [
        (SCENE, MODEL, SCENES['classes'], SCENES['palette']),
        (PART, MODEL, ['water', 'grass'], [(40, 110, 175), (80, 150, 55)]),
        (COLOURED, MODEL, ['x', 'y'], [(1, 2, 3), (4, 5, 6)]),
        (OWN, MODEL, ['x', 'y', 'z'], MODEL['palette']),
        (dict(type='BaseSegDataset'), MODEL, ['a', 'b', 'c'], MODEL['palette']),
        (None, MODEL, ['a', 'b', 'c'], MODEL['palette']),
        (dict(type='ConcatDataset', datasets=[]), MODEL, ['a', 'b', 'c'], MODEL['palette']),
        (ONE, {}, ['x'], distinct_palette(1)),
        (dict(type='RepeatDataset', dataset=SCENE), {}, SCENES['classes'], SCENES['palette']),
        (dict(type='ConcatDataset', datasets=[ONE]), {}, ['x'], distinct_palette(1)),
    ],
)
def test_names_and_colours_of_a_dataset(dataset, model, names, colours):
    assert classes_of(dataset, model) == (list(names), [tuple(colour) for colour in colours])


def test_datasets_that_name_no_classes():
    with pytest.raises(ValueError, match="'PaintedSceneDataset', which is not registered.*PaintedScenesDataset"):
        classes_of(dict(type='PaintedSceneDataset'), MODEL)
    for dataset in (None, dict(type='BaseSegDataset'), dict(type='ConcatDataset', datasets=[])):
        with pytest.raises(ConfigError, match='names no classes'):
            classes_of(dataset, {})
