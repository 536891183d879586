"""Label maps: the numbers of files of every kind, and what becomes of them."""

import io

import numpy as np
import pytest
import rasterio
from mmseg.datasets.transforms import LoadAnnotations
from PIL import Image

from mmseg_sclip.datasets.label_maps import VOID, LabelMap, LoadLabelMap, labels_of, read_label_map
from mmseg_sclip.datasets.pipelines import with_own_readers
from mmseg_sclip.errors import BadFileError
from mmseg_sclip.notes import NOTES


def written(values, kind='PNG', **options):
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(values, **profile):
    values = values if values.ndim == 3 else values[None]
    shape = dict(count=len(values), height=values.shape[1], width=values.shape[2])
    with rasterio.MemoryFile() as memory:
        with memory.open(**{'driver': 'GTiff', 'dtype': values.dtype, **shape, **profile}) as file:
            file.write(values)
        return memory.read()


WIDE = np.array([[0, 9, 255, 256], [265, 65535, 1, 2]])


def test_more_than_8_bits_are_read_whole():
    contents = [written(WIDE.astype(np.uint16), kind) for kind in ('PNG', 'TIFF')]
    contents += [tiff(WIDE.astype(kind), compress='lzw') for kind in ('uint16', 'int32', 'uint32', 'int64', 'float64')]
    for content in (*contents, written(WIDE.astype(np.int32), 'TIFF')):
        values, missing, _ = read_label_map(content, 'x')
        assert values.tolist() == WIDE.tolist() and missing is None


def test_the_numbers_of_small_files():
    values = np.array([[0, 1, 2, 3], [3, 2, 1, 0]], np.uint8)
    palette = Image.fromarray(values)
    palette.putpalette([200, 10, 10, 0, 0, 0, 7, 7, 7, 1, 2, 3])
    buffer = io.BytesIO()
    palette.save(buffer, 'PNG')
    few_bits = [tiff(values, driver='PNG', nbits=bits) for bits in (2, 4)]
    for content in (written(values), buffer.getvalue(), written(values, 'BMP'), *few_bits):
        assert read_label_map(content, 'x').values.tolist() == values.tolist()
    lossless = written(np.resize(values, (40, 50)), 'JPEG2000')
    assert (read_label_map(lossless, 'x').values == np.resize(values, (40, 50))).all()
    assert read_label_map(written(values > 1), 'x').values.tolist() == (values > 1).astype(int).tolist()
    assert read_label_map(tiff(np.int8([[-1, 5]])), 'x').values.tolist() == [[-1, 5]]
    assert read_label_map(tiff(np.uint32([[4294967295, 1]])), 'x').values.tolist() == [[4294967295, 1]]
    assert read_label_map(written(np.uint8([[4, 5]])), 'x').values.shape == (1, 2)


@pytest.mark.parametrize('dtype, nodata', [('float32', -9999), ('float32', -3.4e38), ('int16', -1), ('uint8', 200)])
def test_nan_and_what_is_declared_as_no_data(dtype, nodata):
    values = np.array([[1, 2], [3, 0]], dtype)
    values[0, 0] = nodata
    if dtype == 'float32':
        values[1, 1] = np.nan
    found = read_label_map(tiff(values, nodata=nodata), 'x')
    assert found.missing.tolist() == [[True, False], [False, dtype == 'float32']]
    assert labels_of(found, mark_void=False).tolist() == [[VOID, 2], [3, VOID if dtype == 'float32' else 0]]


def test_a_mask_inside_of_a_file(tmp_path):
    path, profile = tmp_path / 'x.tif', dict(driver='GTiff', width=2, height=1, count=1, dtype='uint8')
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, 'w', **profile) as file:
        file.write(np.uint8([[[3, 4]]]))
        file.write_mask(np.array([[False, True]]))
    assert labels_of(read_label_map(path.read_bytes(), path)).tolist() == [[VOID, 4]]
    assert read_label_map(tiff(np.uint8([[3, 4]]), nodata=3.5), 'x').missing is None


@pytest.mark.parametrize(
    'content, words',
    [
        (tiff(np.float32([[0.5, 1]])), 'holds 0.5, which is not the number of a class'),
        (tiff(np.float32([[np.inf, 1]])), 'holds inf'),
        (tiff(np.uint64([[2**63, 1]])), 'numbers from 1 to 9223372036854775808'),
        (tiff(np.int32([[VOID, 1]])), 'numbers from -2147483648 to 1'),
        (tiff(np.zeros((2, 3, 4), np.uint8)), r'shape \(3, 4, 2\): it has channels'),
        (written(np.zeros((3, 4, 3), np.uint8)), 'has channels, as a picture'),
        (written(np.zeros((8, 8), np.uint8), 'JPEG'), 'with loss, as JPEG.*Export it again as PNG'),
        (written(np.zeros((8, 8, 3), np.uint8), 'WEBP'), 'with loss'),
        (written(np.zeros((8, 8), np.uint8), 'JPEG2000', irreversible=True), 'with loss'),
        (b'P5 2 1 18 \x01\x02', 'largest value is 18'),
        (b'no picture', 'damaged or no image'),
    ],
)
def test_what_is_refused(content, words):
    with pytest.raises(BadFileError, match=f'x.png .*{words}'):
        read_label_map(content, 'x.png')


@pytest.fixture
def load(tmp_path):
    """`load(content, cls, reduce_zero_label, label_map, **settings)` is what a step of the pipeline makes of a file."""

    def run(content, cls=LoadLabelMap, reduce_zero_label=False, label_map=None, **settings):
        (tmp_path / 'x').write_bytes(content)
        sample = dict(seg_map_path=str(tmp_path / 'x'), reduce_zero_label=reduce_zero_label, seg_fields=[])
        sample['label_map'] = label_map
        return cls(**settings).transform(sample)

    return run


@pytest.mark.parametrize('label_map', [None, {0: 2, 1: 255, 2: 0}])
@pytest.mark.parametrize('reduce_zero_label', [False, True])
def test_8_bits_are_what_mmseg_makes_of_them(load, reduce_zero_label, label_map):
    content = written(np.uint8([[0, 1, 2, 3], [254, 255, 0, 9]]))
    ours, theirs = (load(content, cls, reduce_zero_label, label_map) for cls in (LoadLabelMap, LoadAnnotations))
    assert ours['gt_seg_map'].dtype == theirs['gt_seg_map'].dtype == np.uint8
    assert ours['gt_seg_map'].tolist() == theirs['gt_seg_map'].tolist()
    assert ours['seg_fields'] == ['gt_seg_map']
    marked = load(content, LoadLabelMap, reduce_zero_label, label_map, mark_void=True)['gt_seg_map']
    for value, found in zip([0, 1, 2, 3, 254, 255, 0, 9], marked.ravel().tolist(), strict=True):
        label = (VOID if value in (0, 255) else value - 1) if reduce_zero_label else value
        if label_map and label in label_map:
            label = VOID if label_map[label] == 255 else label_map[label]
        assert found == label


def test_zero_is_reduced_in_16_bits(load):
    found = load(written(np.uint16([[0, 1, 255, 256, 65535]])), reduce_zero_label=True)
    assert found['gt_seg_map'].tolist() == [[VOID, 0, 254, 255, VOID]]
    assert load(tiff(np.int32([[-1, 0, 300]])), reduce_zero_label=True)['gt_seg_map'].tolist() == [[-1, VOID, 299]]


def test_256_kept_classes_use_255(load):
    """Where a config keeps more classes than 255, that number is one of them and no sign."""
    found = LabelMap(np.uint16([[255, 256, 300]]))
    assert labels_of(found, label_map={n: n for n in range(301)}).tolist() == [[255, 256, 300]]
    assert labels_of(found, label_map={255: 0, 256: 255, 300: 1}).tolist() == [[0, VOID, 1]]
    (note,) = load(tiff(np.float32([[np.nan, 1, np.nan]])))[NOTES]
    assert note.pixels == 2 and note.text.startswith('2 pixels of the label map ')


def test_readers_take_the_place_of_mmsegs():
    views = [[dict(type='Resize', scale=(4, 4))], [dict(type='LoadAnnotations', reduce_zero_label=None)]]
    first = [dict(type='LoadImageFromFile', color_type='color'), dict(type='CheckImageFile')]
    steps = with_own_readers([*first, dict(type='TestTimeAug', transforms=views), LoadLabelMap()])
    assert [step['type'] for step in steps[:2]] == ['LoadImage', 'TestTimeAug'] and len(steps) == 3
    assert steps[0]['color_type'] == 'color' and isinstance(steps[2], LoadLabelMap)
    assert steps[1]['transforms'][1] == [dict(type='LoadLabelMap', reduce_zero_label=None, mark_void=True)]
    assert views[1][0]['type'] == 'LoadAnnotations'
    assert with_own_readers(steps) == steps
    resized = with_own_readers([dict(type='LoadAnnotations'), dict(type='Resize', scale=(4, 4), backend='pillow')])
    assert not resized[0]['mark_void']  # Pillow resizes 8 bits only
    assert with_own_readers([dict(type='LoadAnnotations'), dict(type='PackSegInputs')])[0]['mark_void']
