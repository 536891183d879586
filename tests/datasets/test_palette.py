"""Colours of classes."""

import numpy as np
import pytest

from mmseg_sclip.datasets import PaintedScenesDataset
from mmseg_sclip.datasets.palette import BLACK, classes_of, distinct_palette
from mmseg_sclip.errors import ConfigError


def lab(colours):
    """CIELAB written out, D65: not the conversion that chose the colours."""
    rgb = np.asarray(colours) / 255
    linear = np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    matrix = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    x, y, z = (linear @ np.array(matrix).T / [0.95047, 1, 1.08883]).T
    f = [np.where(v > (6 / 29) ** 3, np.cbrt(v), v / (3 * (6 / 29) ** 2) + 4 / 29) for v in (x, y, z)]
    return np.stack([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])], axis=-1)


@pytest.mark.parametrize('count, least', [(2, 80), (9, 45), (21, 30), (60, 15), (256, 5)])
def test_colours_are_far_from_each_other_and_from_the_background(count, least):
    colours = distinct_palette(count, background_index=0)
    assert colours[0] == BLACK and len(set(colours)) == count
    apart = np.linalg.norm(lab(colours)[:, None] - lab(colours), axis=-1) + 1e9 * np.eye(count)
    assert apart.min() > least


def test_a_class_keeps_its_colour_when_others_come():
    few, many = distinct_palette(3), distinct_palette(100)
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
