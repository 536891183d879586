"""What `ablate` writes of its rows."""

import csv
import io
import json

import pytest

from mmseg_sclip.ablation.report import comma_separated, markdown, tables, write_report
from mmseg_sclip.ablation.rows import BENCHMARKS, select
from mmseg_sclip.ablation.running import Entry
from mmseg_sclip.errors import OutputError
from mmseg_sclip.files import MARK, is_ours

KEYS = ['table', 'row', 'config', 'dataset', 'seed', 'images', 'mIoU', 'paper', 'skipped', 'seconds']


def entry(table, name, dataset, miou=None, reason=None, seed=None):
    (row,) = select(table, [name])
    result = None if miou is None else dict(images=7, metrics=dict(mIoU=miou), seconds=1.5)
    return Entry.of(table, row, dataset, seed=seed, result=result, reason=reason)


def test_files(tmp_path):
    rows = [entry('1', 'clip', 'voc21', 18.504), entry('3', 'local:5', 'demo', reason='no data', seed=3)]
    files = write_report(rows, tmp_path)
    assert [file.name for file in files] == ['results.json', 'tables.md', 'tables.csv']
    assert all(is_ours(file) for file in files)
    first, second = json.loads(files[0].read_text())
    assert list(first) == list(second) == [*KEYS, 'options', 'result', 'software']
    assert list(first.values()) == ['1', 'clip', 'clip_voc21', 'voc21', None, 7, 18.5, 18.8, None, 1.5, {}, None, MARK]
    assert list(second.values())[:10] == ['3', 'local:5', 'sclip_demo', 'demo', 3, None, None, None, 'no data', None]
    assert second['options']['model.backbone.decoder.attention']['window'] == 5
    files[1].write_text('mine')
    with pytest.raises(OutputError, match=r'tables.md .*\(the tables\)'):
        write_report(rows, tmp_path)


def test_the_mean_over_eight_needs_all_eight():
    sclip = [entry('1', 'sclip', name, 10.0 + i) for i, name in enumerate(BENCHMARKS)]
    clip = [entry('1', 'clip', name, 5.0) for name in BENCHMARKS[:7]]
    clip.append(entry('1', 'clip', BENCHMARKS[7], reason='no data'))
    rows = [*sclip, *clip, entry('1', 'sclip', 'coco_stuff10k', 90.0)]
    (table,) = tables(rows)
    assert table.columns[-1] == 'mean'
    assert tables(sclip[:7])[0].columns == list(BENCHMARKS[:7])
    text = markdown(rows)
    assert '| coco_stuff10k | mean of eight |' in text
    assert '| 17.00 | 90.00 | 13.50 |' in text and '| 5.00 | – | – | – |' in text
    assert '| 22.4 [A] | – | 38.2 [A] |' in text
    assert '- clip (coco_stuff164k): no data' in text


def test_the_table_and_what_contradicts_the_paper():
    numbers = {'clip': 30.0, 'maskclip': 60.0, 'sclip': 50.0, 'clip+pamr': 1.0}
    lines = markdown([entry('1', name, 'demo', miou, seed=4) for name, miou in numbers.items()]).splitlines()
    assert '| row | what | numbers | demo | voc21 |' in lines
    at = lines.index('|  |  | paper | – | 59.1 [A] |')
    assert lines[at - 1] == '| sclip | correlative self-attention | measured | 50.00 | – |'
    assert '- demo: 7 images, scenes of seed 4' in lines
    assert '- demo: 2 of 3 pairs of rows stand in the order of the paper on voc21' in lines
    against = [line for line in lines if ', but the paper has ' in line]
    assert against == ['- demo: sclip 50.00 < maskclip 60.00, but the paper has 59.1 [A] > 43.4 [A] on voc21']


TWO = dict(zip(['identity', 'k', 'identity:gain=2', 'k:gain=2', 'q+k'], [1.0, 2.0, 4.0, 3.0, 3.5], strict=True))
PAMR = {
    'maskclip': 40.0,
    'maskclip+pamr:steps=2,dilations=1-2': 41.0,
    'maskclip+pamr:steps=10,dilations=8-16': 39.0,
    'clip+pamr:steps=2,dilations=1-2': 9.0,
    'clip+pamr:steps=5,dilations=1-2': 8.0,
}
BEST = 'PAMR: 2 steps, dilations 1-2'


@pytest.mark.parametrize(
    'table, dataset, numbers, sentence',
    [
        ('3', 'context59', dict(local=9.0, earlier=9.0), 'earlier 9.00 = local 9.00, but the paper has 26.4 [B] > '),
        # Two readings of the paper are not compared with each other.
        ('2', 'voc21', TWO, '4 of 6 pairs of rows stand in the order of the paper\n'),
        ('2', 'voc21', TWO, 'k:gain=2 3.00 < identity:gain=2 4.00, but'),
        ('2', 'voc21', TWO, 'q+k 3.50 < identity:gain=2 4.00, but'),
        ('pamr', 'demo', PAMR, f'41.00 with identity as the last attention, {BEST}, +1.00 against 40.00 without PAMR'),
        ('pamr', 'demo', PAMR, f"9.00 with CLIP's own attention, {BEST}\n"),
    ],
)
def test_sentences_below_the_table(table, dataset, numbers, sentence):
    assert f'- {dataset}: {sentence}' in markdown([entry(table, name, dataset, miou) for name, miou in numbers.items()])
    assert '- the paper has no numbers to compare with' in markdown([entry('1', 'clip', 'voc21', 3.0)])


def test_several_seeds():
    seeds = [
        entry('1', name, 'demo', miou + seed, seed=seed)
        for name, miou in (('clip', 10), ('sclip', 20))
        for seed in (3, 5)
    ]
    text = markdown([*seeds, *(entry('1', 'maskclip', 'demo', reason='no data', seed=seed) for seed in (3, 5))])
    assert '| measured | 14.00 (13.00–15.00) | – |' in text and '| measured | 24.00 (23.00–25.00) | – |' in text
    spread = 'a value is the mean over the seeds, and the smallest to the largest'
    assert f'- demo: 7 images, scenes of seeds 3, 5; {spread}\n' in text
    assert '- demo: 1 of 1 pairs of rows' in text and '- maskclip (demo): no data\n' in text
    assert '1,sclip,measured,24.00,' in comma_separated(seeds).splitlines()


def test_csv():
    rows = [entry('1', 'clip', 'voc21', 18.5), entry('1', 'clip', 'voc20', reason='x'), entry('2', 'q', 'demo', 2.0)]
    *lines, last = comma_separated(rows).splitlines()
    assert last == f'# {MARK}'
    assert list(csv.reader(io.StringIO('\n'.join(lines)))) == [
        ['table', 'row', 'numbers', 'voc21', 'voc20', 'demo'],
        ['1', 'clip', 'measured', '18.50', '', ''],
        ['1', 'clip', 'paper', '18.8', '49.4', ''],
        ['2', 'q', 'measured', '', '', '2.00'],
        ['2', 'q', 'paper', '58.2', '', ''],
    ]
