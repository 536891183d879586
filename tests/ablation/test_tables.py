import pytest

from mmseg_sclip import paths
from mmseg_sclip.ablation import paper, tables
from mmseg_sclip.ablation.tables import check_names, select


def names(table, wanted=None):
    return [row.name for row in select(table, wanted)]


def test_default_rows():
    assert names('1') == ['clip', 'maskclip', 'sclip', 'clip+pamr', 'maskclip+pamr', 'sclip+pamr']
    assert {'identity', 'random', 'q', 'k', 'q+k', 'learned'} <= set(names('2'))
    assert {'sharpening', 'local', 'earlier'} <= set(names('3'))
    assert names('4') == [f'mode{i}' for i in range(1, 6)]
    grid = names('pamr')
    assert len(grid) == 3 + 3 * len(tables.STEPS) * len(tables.DILATIONS)
    assert 'maskclip+pamr:steps=10,dilations=8-16' in grid
    for table in tables.TITLES:
        assert len(set(names(table))) == len(names(table))


def test_rows_with_parameters():
    (row,) = select('3', ['local:5'])
    assert row.name == 'local:5' and row.options == {'model.backbone.decoder.attention.window': 5}
    assert row.paper is None and row.config == 'ablations/sclip_local_{dataset}'
    (row,) = select('3', ['earlier:-1'])
    assert row.options == {'model.backbone.decoder.attention.block': -1}
    (row,) = select('3', ['sharpening:2.50'])
    assert row.name == 'sharpening:2.5' and row.options == {'model.backbone.decoder.attention.temperature': 2.5}
    (row,) = select('2', ['random:8'])
    assert row.options == {'model.backbone.decoder.attention.projections.0.count': 8}
    (row,) = select('2', ['random:8,gain=2'])
    assert row.options == {
        'model.backbone.decoder.attention.projections.0.count': 8,
        'model.backbone.decoder.attention.gain': 2,
    }
    (row,) = select('2', ['q:gain=2.0'])
    assert row.name == 'q:gain=2' and row.config == 'ablations/sclip_q_{dataset}' and row.paper == 'q'
    (row,) = select('pamr', ['sclip+pamr:dilations=2-4'])
    assert row.name == 'sclip+pamr:steps=10,dilations=2-4'
    assert row.options == {'model.test_cfg.pamr.steps': 10, 'model.test_cfg.pamr.dilations': (2, 4)}


def test_the_configs_own_parameter_is_the_row_without_one():
    assert names('2', ['q:gain=1', 'random:1', 'random:1,gain=1']) == ['q', 'random']
    assert names('3', ['local:3', 'local', 'earlier:3', 'sharpening:2']) == ['local', 'earlier', 'sharpening']
    assert select('2', ['random:1']) == select('2', ['random'])[:1]


def test_named_rows_are_taken_from_the_tables_that_have_them():
    assert names('1', ['sclip', 'local']) == ['sclip']
    assert names('pamr', ['clip+pamr']) == [name for name in names('pamr') if name.startswith('clip+pamr')]


@pytest.mark.parametrize(
    'wanted, words',
    [
        (['skclip'], "called 'skclip'. Did you mean 'sclip'?"),
        (['mode1'], 'There are: clip, maskclip'),
        (['local:x'], 'local:x cannot be made'),
        (['clip:3'], 'other rows have none'),
        (['clip+pamr:stops=3'], 'unknown: stops'),
        (['clip+pamr:3'], 'cannot be made'),
    ],
)
def test_wrong_names(wanted, words):
    with pytest.raises(ValueError, match='.') as caught:
        check_names(['1', '3'], wanted)
    assert words in str(caught.value)


def test_the_rows_have_their_configs():
    shipped = {paths.config_name(path) for path in paths.list_configs()}
    for table in ('1', 'pamr'):
        assert {row.config.format(dataset=name) for row in select(table) for name in tables.DATASETS} <= shipped
    for table in ('2', '3'):
        there = ('demo', 'voc21', 'context59', 'coco_stuff164k')
        wanted = {row.config.format(dataset=name) for row in select(table) for name in there if not row.learned}
        assert wanted <= shipped
    assert {row.config.format(dataset='voc21') for row in select('4') if row.unknown is None} <= shipped


def test_the_paper_data_is_consistent():
    known = {row.name.partition(':')[0] for table in '1234' for row in select(table)}
    for entries in paper._load()['tables'].values():
        for entry in entries:
            assert entry['row'] in known and entry['tag'] in paper.tags() and entry['source']
            assert set(entry['values']) <= {*tables.BENCHMARKS, 'mean'}
    for row in ('clip', 'maskclip', 'sclip', 'maskclip+pamr', 'sclip+pamr'):
        values = [paper.cite(row, name).value for name in tables.BENCHMARKS]
        assert sum(values) / 8 == pytest.approx(paper.cite(row, 'mean').value, abs=0.051)


def test_cite():
    assert paper.cite('sclip', 'voc21')[:2] == (59.1, 'A')
    assert paper.cite('sclip+pamr', 'voc21').tag == 'C' and paper.cite('sclip+pamr', 'mean').tag == 'B'
    assert paper.cite('clip+pamr', 'voc21') is None
    assert paper.cite('sclip', 'demo') is None and paper.cite(None, 'voc21') is None
