"""Numbers of runs by row and column, and the files of tables."""

import csv
import io

import pytest
from mmengine.config import Config

from mmseg_sclip.comparing.method_table import method_table
from mmseg_sclip.comparing.runs import Run
from mmseg_sclip.comparing.tables import EMPTY, Grid, check_table_files, comma_separated, markdown_table, write_tables
from mmseg_sclip.errors import OutputError
from mmseg_sclip.files import MARK, is_ours


def run(method, dataset, miou=None, seed=None, **more):
    result = None if miou is None else dict(images=7, metrics=dict(mIoU=miou, aAcc=2 * miou), seconds=1.25)
    return Run(method=method, dataset=dataset, seed=seed, result=result, **more)


@pytest.fixture
def grid():
    return Grid([run('a', 'x', 10.0), run('a', 'y', 20.0), run('b', 'x', 4.0, 1), run('b', 'x', 8.5, 2), run('b', 'y')])


def test_numbers_by_row_and_column(grid):
    assert (grid.rows, grid.columns) == (['a', 'b'], ['x', 'y'])
    assert grid.mean('a', 'x') == 10 and grid.mean('a', 'x', 'y') == 15
    assert grid.mean('b', 'x') == 6.25 and grid.mean('b', 'y') is grid.mean('b', 'x', 'y') is None
    assert grid.gain('b', 'a', 'x') == -3.75 and grid.gain('a', 'b', 'y') is None
    cells = [grid.cell('a', 'x'), grid.cell('a', 'x', 'y'), grid.cell('b', 'x'), grid.cell('b', 'y')]
    assert cells == ['10.00', '15.00', '6.25 (4.00–8.50)', EMPTY]


def test_texts():
    assert markdown_table(['a', 'b', 'c'], [['x', 'y', '1']], words=2) == '| a | b | c |\n|---|---|--:|\n| x | y | 1 |'
    *lines, last = comma_separated(['a', 'b'], [['x, y', '1']]).splitlines()
    assert list(csv.reader(io.StringIO('\n'.join(lines)))) == [['a', 'b'], ['x, y', '1']] and last == f'# {MARK}'


def test_files_are_ours_and_replace_no_others(tmp_path):
    folder = tmp_path / 'new'
    check_table_files(folder, ['a.md', 'b.md'])
    assert list(folder.iterdir()) == []
    for _ in range(2):  # ours are replaced
        assert write_tables(folder, {'a.md': f'1 {MARK}'}) == [folder / 'a.md']
        assert (folder / 'a.md').read_text() == f'1 {MARK}\n' and is_ours(folder / 'a.md')
    (folder / 'b.md').write_text('mine')
    with pytest.raises(OutputError, match=r'b.md is there already .* \(--out\)'):
        check_table_files(folder, ['a.md', 'b.md'])
    with pytest.raises(OutputError, match=r'b.md is there already .* \(--out\)'):
        write_tables(folder, {'b.md': MARK})
    assert (folder / 'b.md').read_text() == 'mine'


def test_methods_by_protocol():
    more = dict(config=Config(dict(work_dir='w')))
    runs = [
        run('a', 'demo', 1.0, 5, protocol='own', number=1, **more),
        run('b', 'demo', 2.0, 5, protocol='own', number=1, **more),
        run('a', 'demo', 3.0, 5, protocol='common', number=2, **more),
        run('a', 'demo', 2.0, 6, protocol='own', number=3, **more),
    ]
    lines = method_table(runs).splitlines()
    assert lines[0].startswith('mIoU, aAcc and mAcc in percent. demo, 7 images, scenes of seeds 5, 6. With several')
    assert lines[2:4] == ["- own: each method's own protocol", '- common: the protocol of SCLIP for every method']
    assert lines[5] == '| method | mIoU own | aAcc own | mAcc own | mIoU common | aAcc common | mAcc common |'
    assert lines[7] == '| a | 1.50 (1.00–2.00) | 3.00 (2.00–4.00) | – | 3.00 | 6.00 | – |'
    assert lines[8] == '| b | 2.00 | 4.00 | – | – | – | – |'
    assert lines[10:] == ['- pass 1: 2 methods, 1.2 s', '- pass 2: a, 1.2 s', '- pass 3: a, 1.2 s']
    one = method_table(runs[:1]).splitlines()[0]
    assert one.endswith('seeds 5. With several seeds, a value is their mean, and the smallest to the largest.')
    assert 'seed' not in method_table([run('a', 'voc21', 1.0, protocol='own')])
