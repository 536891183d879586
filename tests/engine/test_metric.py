"""The metric against MMSeg's on hand-made and random cases, labels that stand for no class, and label maps."""

import numpy as np
import pytest
import torch
from mmseg.evaluation import IoUMetric
from PIL import Image

from mmseg_sclip.engine import ExactIoUMetric
from mmseg_sclip.engine import metric as module
from mmseg_sclip.engine.result import class_results
from mmseg_sclip.engine.summary import absent_classes
from mmseg_sclip.errors import ConfigError
from mmseg_sclip.files import is_ours

NAMES = ('a', 'b', 'c')


def build(cls=ExactIoUMetric, names=NAMES, **arguments):
    metric = cls(**arguments)
    metric.dataset_meta = dict(classes=names)
    return metric


def sample(guess, truth=None, path='images/x.jpg', **more):
    found = dict(pred_sem_seg=dict(data=torch.as_tensor(guess)[None]), img_path=str(path), **more)
    return found if truth is None else dict(found, gt_sem_seg=dict(data=torch.as_tensor(truth)[None]))


def images(count=4, classes=3, highest=3, ignore=255, seed=0):
    """Random samples; with `highest` above `classes` some labels are no class."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        truth = torch.randint(0, highest, (33, 47), generator=generator)
        truth[:5] = ignore
        yield sample(torch.randint(0, classes, (33, 47), generator=generator), truth.to(torch.uint8))


def test_counts_by_hand():
    metric = build()
    metric.process({}, [sample([[0, 0, 1], [2, 2, 1]], [[0, 1, 1], [255, 2, 0]])])
    metric.process({}, [sample([[2, 2, 2], [2, 2, 2]], [[2, 2, 2], [2, 2, 2]])])
    assert metric.evaluate(2)['mIoU'] == round((100 / 3 + 100 / 3 + 100) / 3, 2)
    # intersection, union, prediction, truth
    assert metric.counts.tolist() == [[1, 3, 2, 2], [1, 3, 2, 2], [7, 7, 7, 7]]
    assert metric.counts.dtype == torch.int64 and not metric.results  # a second evaluation begins at nothing
    assert metric.unrounded()['mIoU'] == pytest.approx((100 / 3 + 100 / 3 + 100) / 3, abs=1e-12)
    assert metric.unrounded()['aAcc'] == pytest.approx(100 * 9 / 11, abs=1e-12)


@pytest.mark.parametrize('ignore, highest', [(255, 3), (0, 5)])
@pytest.mark.parametrize(
    'arguments', [{}, dict(iou_metrics=['mDice', 'mFscore'], beta=2), dict(iou_metrics='mIoU', nan_to_num=0)]
)
def test_numbers_equal_mmsegs(ignore, highest, arguments):
    batch = list(images(highest=highest, ignore=ignore))
    found = []
    for cls in (ExactIoUMetric, IoUMetric):
        metric = build(cls, names=(*NAMES, 'nowhere'), ignore_index=ignore, **arguments)
        for image in batch:
            metric.process({}, [image])
        found.append(metric.evaluate(len(batch)))
    ours, theirs = found
    assert list(ours) == list(theirs)
    for name in ours:
        assert ours[name] == pytest.approx(theirs[name], abs=0.011), name  # MMSeg divides in float32


def test_classes_that_nobody_has_are_left_out():
    metric = build()
    metric.process({}, [sample([[0, 0], [2, 2]], [[0, 0], [0, 0]])])
    assert metric.evaluate(1)['mIoU'] == 25.0  # 2/4 and 0/2; class b is nowhere
    first, second, third = class_results(NAMES, metric.counts)
    assert first == dict(name='a', intersect=2, union=4, predicted=2, truth=4, IoU=50.0, Acc=50.0)
    assert [second[key] for key in ('IoU', 'Acc', 'union')] == [None, None, 0]
    assert (third['IoU'], third['Acc']) == (0.0, None)
    assert metric.unrounded() == dict(aAcc=50.0, mIoU=25.0, mAcc=50.0)
    metric.nan_to_num = 7  # class b has it in all three, class c in its accuracy
    assert metric.unrounded()['mIoU'] == pytest.approx((50 + 700 + 0) / 3)
    assert metric.unrounded()['mAcc'] == pytest.approx((50 + 700 + 700) / 3)


def test_sums_stay_exact_where_float32_does_not():
    metric = build(names=('a', 'b'))
    metric.start_from(torch.tensor([[2**24] * 4, [0] * 4]))
    metric.process({}, [sample([[0, 1]], [[0, 1]])] * 3)
    metric.evaluate(3)
    assert metric.counts.tolist() == [[2**24 + 3] * 4, [3] * 4]
    assert metric.counts.dtype == torch.int64


REFUSED = [
    (dict(ignore_label=9), "Unknown key 'ignore_label' in test_evaluator.*Did you mean 'ignore_index'"),
    (dict(iou_metrics=['mIoU', 'Fscore']), "'Fscore'. Did you mean 'mFscore'"),
    (dict(beta='2'), 'beta is'),
    (dict(nan_to_num='zero'), 'nan_to_num is'),
    (dict(format_only='no'), 'format_only is'),
    *((dict(ignore_index=wrong), 'ignore_index is .* must be a whole') for wrong in (9.5, '9', None, [1, 2.5])),
]


@pytest.mark.parametrize('settings, words', REFUSED)
def test_settings_that_the_metric_cannot_work_with(settings, words):
    with pytest.raises(ConfigError, match=words):
        build(**settings)


def test_255_is_a_class_where_there_are_more():
    names = [f'{number}' for number in range(300)]
    image = sample([[255, 0, 0]], [[255, 65535, 0]])
    for settings, counted in ((dict(), 2), (dict(ignore_index=255), 2), (dict(ignore_index=[255, 65535]), 1)):
        metric = build(names=names, **settings)
        metric.process({}, [image])
        assert metric.results[0][:, 2].sum() == counted, settings
    metric = build(ignore_index=-1)  # as a byte it would be 255
    metric.process({}, [sample([[1, 1]], torch.tensor([[255, 1]], dtype=torch.uint8))])
    assert metric.results[0].tolist() == [[0, 0, 0, 0], [1, 2, 2, 1], [0, 0, 0, 0]]


def test_classes_that_no_label_map_holds_are_named():
    names = [f'c{number}' for number in range(14)]
    counts = torch.zeros(14, 4, dtype=torch.int64)
    counts[0] = torch.tensor([5, 5, 5, 5])
    start = 'No label map holds 13 of the 14 classes: c1, c2, c3, c4, c5, c6, c7, c8, c9, c10 and 3 more. '
    assert absent_classes(names, counts) == start + 'None is predicted, so in mIoU they are left out of it.'
    counts[1:, 2] = 1
    assert absent_classes(names[:1], counts[:1]) is None
    assert 'c1 (ignored by ignore_index). All are predicted' in absent_classes(names[:2], counts[:2], ignored=[1, 255])
    counts[2, 2] = 0
    assert absent_classes(names[:3], counts[:3], nan_to_num=7).endswith(
        'those that are predicted (c1) count with an IoU of 0, the others count as 7 (nan_to_num).'
    )


def test_labels_that_are_no_class_are_reported_once(monkeypatch):
    said = []
    monkeypatch.setattr(module, 'print_log', lambda text, **_: said.append(text))
    metric = build(names=('a', 'b'))
    metric.process({}, [sample([[0, 0]], [[0, 255]], 'images/fine.jpg')])
    assert not said
    metric.process({}, [sample([[0, 0, 0]], [[0, 7, 3]], 'images/strange.jpg'), sample([[0]], [[9]])])
    (text,) = said
    for words in ('images/strange.jpg has the label 3, 7', '2 classes (0 to 1)', 'test_evaluator=dict(ignore_index=3)'):
        assert words in text
    build(names=('a', 'b'), ignore_index=7).process({}, [sample([[0, 0]], [[0, 7]])])
    assert len(said) == 1


def read(path):
    assert is_ours(path)
    return np.asarray(Image.open(path))


def test_label_maps_are_written_as_the_dataset_stores_them(tmp_path):
    metric = build(output_dir=str(tmp_path / 'maps'))
    assert not (tmp_path / 'maps').exists()  # nothing is made before the first image
    guess = [[0, 1, 2], [2, 1, 0]]
    metric.process({}, [sample(guess, guess, tmp_path / 'one' / 'x.jpg')])
    metric.process({}, [sample(guess, guess, tmp_path / 'two' / 'x.jpg', reduce_zero_label=True)])
    assert read(tmp_path / 'maps' / 'x.png').tolist() == guess
    assert read(tmp_path / 'maps' / 'x-2.png').tolist() == [[1, 2, 3], [3, 2, 1]]
    assert len(metric.results) == 1
    metric.process({}, [sample([[2]], [[2]], tmp_path / 'one' / 'x.jpg')])  # a second pass
    assert read(tmp_path / 'maps' / 'x.png').tolist() == [[2]]
    assert sorted(path.name for path in (tmp_path / 'maps').iterdir()) == ['x-2.png', 'x.png']


@pytest.mark.parametrize(
    'classes, reduced, mode', [(256, False, 'L'), (257, False, 'I;16'), (254, True, 'L'), (255, True, 'I;16')]
)
def test_all_classes_fit_into_the_bits_of_a_file(tmp_path, classes, reduced, mode):
    """Raised by one, the last of 255 classes would be 255, which is read as no label."""
    metric = build(output_dir=str(tmp_path), format_only=True, names=range(classes))
    metric.process({}, [sample([[0, classes - 1]], reduce_zero_label=reduced)])
    assert metric.evaluate(1) == {} and metric.counts is None  # without truth only maps are made
    assert read(tmp_path / 'x.png').tolist() == [[reduced, classes - 1 + reduced]]
    assert Image.open(tmp_path / 'x.png').mode == mode
