"""The rows of the paper's tables: their names, what they make of the configs, and the paper's numbers."""

import re

import pytest
from mmengine.config import Config

from mmseg_sclip import paths
from mmseg_sclip.ablation import paper, rows
from mmseg_sclip.ablation.rows import check_names, select
from mmseg_sclip.ablation.running import Skipped, configure
from mmseg_sclip.errors import UsageError

ATTENTION = 'model.backbone.decoder.attention'


def names(table, wanted=None):
    return [row.name for row in select(table, wanted)]


def attention(name, table='2'):
    (row,) = select(table, [name])
    return {key: value for key, value in row.options[ATTENTION].items() if key != '_delete_'}


def test_default_rows():
    sclip = ['clip', 'maskclip', 'sclip']
    peers = ['groupvit', 'groupvit+pamr', 'reco', 'tcl', 'tcl+pamr', 'segclip', 'ovsegmentor']
    assert names('1') == [*sclip, *(f'{name}+pamr' for name in sclip), *peers]
    assert [row.name for row in select('1') if row.peer] == peers
    assert names('2')[:5] == ['identity', 'random', 'q', 'k', 'random:4'] and names('2')[-2:] == ['q+k', 'learned']
    assert names('3')[3:] == ['sharpening', 'local', 'earlier']
    assert names('4') == ['mode1', 'mode2', 'mode4', 'mode5']
    assert len(names('pamr')) == 3 + 3 * 4 * 3 and 'maskclip+pamr' in names('pamr')
    shipped = {paths.config_name(path) for path in paths.list_configs()}
    for table in rows.TABLES:
        assert len(set(names(table))) == len(names(table))
        methods = {row.method for row in select(table)} - {'sclip_learned'}
        assert {f'{method}_{dataset}' for method in methods for dataset in rows.DATASETS} <= shipped


def test_rows_with_parameters():
    (row,) = select('3', ['local:5'])
    assert (row.name, row.method, row.paper) == ('local:5', 'sclip', None)
    assert attention('local:5', '3') == dict(type='LocalSelfAttention', window=5)
    assert attention('local', '3') == dict(type='LocalSelfAttention', window=3)
    assert attention('earlier', '3') == dict(type='EarlierAttention', block=3)
    assert attention('earlier:-1', '3') == dict(type='EarlierAttention', block=-1)
    assert attention('sharpening', '3') == dict(type='SharpenedSelfAttention', temperature=2)
    assert names('3', ['sharpening:2.50']) == ['sharpening:2.5']
    assert attention('sharpening:2.50', '3') == dict(type='SharpenedSelfAttention', temperature=2.5)
    assert attention('random:8,gain=2')['gain'] == 2
    assert attention('random:8')['projections'] == [dict(type='RandomProjection', count=8, seed=0)]
    (row,) = select('2', ['q:gain=2.0'])
    assert (row.name, row.paper, row.reading) == ('q:gain=2', 'q', 'rows sum to 2')
    (row,) = select('pamr', ['sclip+pamr:dilations=2-4'])
    assert row.name == 'sclip+pamr:dilations=2-4'
    assert row.options == {'model.test_cfg.refine': [dict(type='PAMR', steps=10, dilations=(2, 4))]}


@pytest.mark.parametrize(
    'table, wanted, expected',
    [
        # The paper's own parameters are the row without any.
        ('2', ['q:gain=1', 'random:1', 'random:1,gain=1'], ['q', 'random']),
        ('3', ['local:3', 'local', 'earlier:3', 'sharpening:2'], ['local', 'earlier', 'sharpening']),
        ('1', ['clip+pamr:steps=10,dilations=8-16'], ['clip+pamr']),
        # Rows are taken from the tables that have them.
        ('1', ['sclip', 'local'], ['sclip']),
        ('pamr', ['clip+pamr'], [name for name in names('pamr') if name.startswith('clip+pamr')]),
    ],
)
def test_named_rows(table, wanted, expected):
    assert names(table, wanted) == expected


@pytest.mark.parametrize(
    'wanted, words',
    [
        ('skclip', "called 'skclip'. Did you mean 'sclip'?"),
        ('mode1', 'There are: clip, maskclip'),
        ('local:x', 'local:x cannot be made: its parameters are window'),
        ('clip:3', 'its parameters are none'),
        ('reco:3', 'its parameters are none'),
        ('tcl+pamr:steps=3', 'its parameters are none'),
        ('groupvit+pamr:stops=3', 'its parameters are steps, dilations'),
        ('clip+pamr:stops=3', 'its parameters are steps, dilations'),
        ('clip+pamr:steps=3,dilations=a', 'cannot be made'),
    ],
)
def test_wrong_names(wanted, words):
    with pytest.raises(UsageError, match=re.escape(words)):
        check_names(['1', '3'], [wanted])


def flatten(value, prefix=''):
    if not isinstance(value, (dict, list, tuple)) or not value:
        return {prefix: value}
    items = value.items() if isinstance(value, dict) else enumerate(value)
    return {k: v for key, part in items for k, v in flatten(part, f'{prefix}.{key}' if prefix else str(key)).items()}


@pytest.mark.parametrize('table, dataset', [('1', 'voc21'), ('2', 'demo'), ('3', 'coco_stuff164k')])
def test_rows_differ_from_sclip_in_what_their_table_says(table, dataset):
    base = flatten(Config.fromfile(paths.config_path(f'sclip_{dataset}')).to_dict())
    for row in select(table):
        if row.method != 'sclip_learned' and not row.peer:
            variant = flatten(configure(row, dataset, {}).to_dict())
            assert flatten(configure(row, dataset, {}).to_dict()) == variant  # options are not used up
            base['model.decode_head.vocabulary'] = variant['model.decode_head.vocabulary']  # a path there
            changed = {key for key in base.keys() | variant.keys() if base.get(key) != variant.get(key)}
            allowed = (f'{ATTENTION}.', 'model.test_cfg.refine')[: 2 if '+pamr' in row.name else 1]
            assert all(key.startswith(allowed) for key in changed), changed
            assert bool(changed) == (row.name not in ('sclip', 'q+k'))


@pytest.mark.parametrize('name, side, window', [('mode1', 224, 224), ('mode2', 336, 224), ('mode5', 448, 448)])
def test_preprocessing_of_the_paper(name, side, window):
    (row,) = select('4', [name])
    for dataset in ('voc21', 'coco_stuff164k'):
        config = configure(row, dataset, {'model.test_cfg.logit_scale': 7})
        (resize,) = [step for step in config.test_dataloader.dataset.pipeline if step['type'] == 'Resize']
        assert (resize.scale, resize.keep_ratio) == ((2048, side), True)
        settings = config.model.test_cfg
        assert (settings.crop_size, settings.stride) == ((window, window), (window // 2, window // 2))
        assert settings.logit_scale == 7
    with pytest.raises(Skipped, match='not resized'):
        configure(row, 'demo', {})


def test_the_papers_numbers_are_consistent():
    known = {row.paper for table in '1234' for row in select(table)}
    for entry in paper._PAPER['numbers']:
        assert entry['row'] in known and entry['tag'] in paper.TAGS and 'recalled' not in entry['source']
        assert set(entry['values']) <= {*rows.BENCHMARKS, 'mean'}
    for row in ('clip', 'maskclip', 'sclip', 'groupvit', 'reco'):
        values = [paper.cite(row, name).value for name in rows.BENCHMARKS]
        assert sum(values) / 8 == pytest.approx(paper.cite(row, 'mean').value, abs=0.051)
    # Each row of Table 1 that the paper has cites its mean, or what its own publication has of three benchmarks.
    cited = {row.name: [paper.cite(row.paper, name) for name in (*rows.BENCHMARKS, 'mean')] for row in select('1')}
    assert [name for name, numbers in cited.items() if not any(numbers)] == ['clip+pamr']
    assert [str(paper.cite('tcl+pamr', name)) for name in ('voc21', 'mean')] == ['55.0 [B]', '37.2 [A]']
    assert paper.cite('tcl+pamr', 'context60') is None and sum(map(bool, cited['segclip'])) == 3
    assert paper.cite('sclip', 'voc21') == (59.1, 'A') and str(paper.cite('sclip', 'voc21')) == '59.1 [A]'
    for row, dataset in (('sclip+pamr', 'voc21'), ('sclip', 'demo'), (None, 'voc21')):
        assert paper.cite(row, dataset) is None
