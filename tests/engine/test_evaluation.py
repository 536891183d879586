"""Whole evaluations: results, resuming, samples that cannot be read, full disks, views, refusals at the start."""

import copy
import errno
import io
import json
import os
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from engine.few_images import NAMES, counted, counts_of, interrupted, run, stems
from mmengine.config import Config
from mmengine.runner import TestLoop as PlainLoop
from mmseg.evaluation import IoUMetric
from mmseg.registry import LOOPS
from PIL import Image

from mmseg_sclip.engine import ProgressHook, VocabularyCheckHook, evaluation, loop, measured
from mmseg_sclip.engine.fingerprint import digest, fingerprint
from mmseg_sclip.engine.journal import Finished, Journal
from mmseg_sclip.errors import BadFileError, ConfigError, Interrupted, OutputError, output_error
from mmseg_sclip.files import MARK
from mmseg_sclip.models.text import load_vocabulary
from mmseg_sclip.visual.prediction_hook import PredictionVisualizationHook


def test_the_result_and_its_file(config, data, tmp_path):
    before = copy.deepcopy(config.to_dict())
    result = run(config)
    assert config.to_dict() == before
    written = json.loads((tmp_path / 'work' / 'result.json').read_text())
    assert result.pop('unwritten') == [] and written.pop('software') == MARK and written == result
    keys = 'config images skipped metrics classes versions device processes seconds precision weights settings'
    assert set(result) == {'fingerprint', *keys.split()}
    assert (result['config'], result['images'], result['skipped']) == ('sclip_demo', 7, [])
    assert (result['device'], result['processes'], result['precision']) == ('cpu', 1, 'fp32')
    assert counted(result) == counts_of(data) and result['classes'][0]['name'] == 'grass'
    shares = [100 * intersect / union for intersect, union, *_ in counts_of(data)]
    assert result['metrics']['mIoU'] == pytest.approx(sum(shares) / len(shares), abs=1e-10)
    printed = json.loads(next((tmp_path / 'work').glob('*/*.json')).read_text())
    assert {name: round(value, 2) for name, value in result['metrics'].items()}.items() <= printed.items()
    assert result['fingerprint'] == digest(fingerprint(config, 'cpu'))
    assert not (tmp_path / 'work' / 'journal').exists()
    assert run(config)['classes'] == result['classes']  # replaced by the same


def test_mmsegs_metric_is_counted_exactly(config, data, tmp_path):
    for kind in ('mmseg.IoUMetric', IoUMetric):
        metric = dict(type=kind, iou_metrics=['mIoU', 'mFscore'], output_dir=str(tmp_path / 'maps'))
        config.test_evaluator = dict(type='Evaluator', metrics=metric) if kind is IoUMetric else [metric]
        result = run(config)
        assert counted(result) == counts_of(data) and result['metrics']['mFscore'] > 0
    assert stems(tmp_path / 'maps') == sorted(['0', '1', '2', '3', '4', 'same', 'same-2'])


def test_the_ignore_index_of_a_dataset_is_the_evaluators(config, data):
    """It is the key of MMSegmentation 0.x."""
    dataset = config.test_dataloader.dataset
    dataset.ignore_index = [9, 3]
    assert counted(run(config)) == counts_of(data, ignored=(9, 3))
    config.test_evaluator.ignore_index = 255
    with pytest.raises(ConfigError, match=r'test_evaluator.ignore_index is 255 and test_dataloader.dataset.ignore_in'):
        run(config)
    other = dict(type='RepeatDataset', times=1, dataset={**dataset, 'ignore_index': 255})
    config.test_dataloader.dataset = dict(type='ConcatDataset', datasets=[dict(dataset), other])
    del config.test_evaluator['ignore_index']
    with pytest.raises(ConfigError, match=r'datasets.0.ignore_index is \[9, 3\] and .*datasets.1.dataset.ignore_index'):
        run(config)


def foreign_result(config, tmp_path):
    (tmp_path / 'work').mkdir()
    (tmp_path / 'work' / 'result.json').write_text('{}')


def maps_among_inputs(config, tmp_path):
    config.custom_hooks = []  # the hook that looks at folders is added where a config has hooks of its own
    root = Path(config.test_dataloader.dataset.data_root)
    config.test_evaluator.output_dir = str(root / 'images' / '..' / 'annotations')


def twice_the_same(config, tmp_path):
    config.test_evaluator.output_dir = str(tmp_path / 'x')
    config.default_hooks.visualization.update(draw=True, out_dir=str(tmp_path / 'y' / '..' / 'x'))


@pytest.mark.parametrize(
    'change, error, words',
    [
        (maps_among_inputs, OutputError, '--out .* inputs of this run'),
        (twice_the_same, OutputError, '--out and --show-dir are the same folder'),
        (foreign_result, OutputError, 'result.json'),
        (dict(type='IoUMetric', ignore_label=9), ConfigError, "'ignore_label' in test_evaluator.*'ignore_index'"),
        (dict(metrics=dict(type='IoUMetric', iou_metrics='mIou')), ConfigError, "iou_metrics is 'mIou'"),
    ],
)
def test_what_is_refused_before_the_first_image(config, data, tmp_path, change, error, words):
    before = {path: path.read_bytes() for path in data.rglob('*.*')}
    if isinstance(change, dict):
        config.test_evaluator = change
    else:
        change(config, tmp_path)
    with pytest.raises(error, match=words):
        run(config)
    assert {path: path.read_bytes() for path in data.rglob('*.*')} == before
    assert not list(tmp_path.rglob('*.png'))


def tested(monkeypatch):
    """The keys of the images that are tested from here on."""
    keys, add = [], Journal.add
    monkeypatch.setattr(Journal, 'add', lambda self, key, *args: keys.append(key) or add(self, key, *args))
    return keys


@pytest.mark.parametrize('after', [1, 4, 7])
def test_an_interrupted_run_goes_on_where_it_stopped(config, data, monkeypatch, after, tmp_path):
    error = interrupted(config, monkeypatch, after)
    assert f'{after} of 7 images: mIoU' in str(error) and error.signum == signal.SIGINT
    assert not (tmp_path / 'work' / 'result.json').exists()
    keys = tested(monkeypatch)
    result = run(config, resume=True)
    assert len(keys) == 7 - after and result['images'] == 7
    assert counted(result) == counts_of(data)
    assert not (tmp_path / 'work' / 'journal').exists()  # the result has made it superfluous


def test_torn_and_damaged_records_are_counted_again(config, data, monkeypatch, tmp_path):
    interrupted(config, monkeypatch, 5)
    (path,) = (tmp_path / 'work' / 'journal').glob('*/counts-*.jsonl')
    whole = path.read_bytes()
    lines = whole.split(b'\n')
    damaged = b'\n'.join([*lines[:2], lines[2].replace(b'[', b'{', 1), *lines[3:]])
    for content, kept in ((whole[:-9], 4), (whole[:-1], 4), (damaged, 2), (b'', 0)):  # torn; its line end is missing
        path.write_bytes(content)
        journal = Journal(path.parent.parent, {})
        journal.folder = path.parent
        assert len(journal.read().keys) == kept
    path.write_bytes(whole[:-9])
    assert counted(run(config, resume=True)) == counts_of(data)


def test_each_image_is_counted_once_whatever_was_unfinished(config, data, monkeypatch):
    for after in (2, 4):
        interrupted(config, monkeypatch, after)
    assert counted(run(config, resume=True)) == counts_of(data)
    interrupted(config, monkeypatch, 3)
    assert counted(run(config)) == counts_of(data)  # all are tested again
    assert counted(run(config, resume=True)) == counts_of(data)  # nothing is left to resume from


def test_only_the_first_process_starts_from_the_counts(config, data, monkeypatch):
    """Here, as a second process that is told by the first one which images are finished."""
    interrupted(config, monkeypatch, 3)
    records = []
    read = Journal.read
    monkeypatch.setattr(measured, 'is_main_process', lambda: False)
    monkeypatch.setattr(Journal, 'read', lambda self, only=None: records.append(read(self, only)) or records[-1])

    def tell(shared):
        root = config.test_dataloader.dataset.data_root
        keys = ['|'.join(f'{root}/{kind}/{name}.png' for kind in ('images', 'annotations')) for name in NAMES[:3]]
        shared[0] = Finished(None, set(keys), {})

    monkeypatch.setattr(measured, 'broadcast_object_list', tell)
    assert counted(run(config, resume=True)) == counts_of(data, leave_out=NAMES[:3])
    assert not records


def test_a_journal_of_something_else_is_refused_with_the_difference(config, data, monkeypatch, tmp_path):
    shutil.copytree(data, tmp_path / 'copy')
    config.test_dataloader.dataset.data_root = str(tmp_path / 'copy')
    interrupted(config, monkeypatch, 2)
    other = copy.deepcopy(config)
    other.test_evaluator.ignore_index = 3
    with pytest.raises(ConfigError, match='settings.test_evaluator.ignore_index was None and is 3'):
        run(other, resume=True)
    os.utime(tmp_path / 'copy' / 'images' / '0.png', (1, 1))
    with pytest.raises(ConfigError, match='data.*0.png was'):
        run(config, resume=True)


def test_a_resumed_run_may_ask_for_other_numbers_of_the_counts(config, data, monkeypatch):
    interrupted(config, monkeypatch, 3)
    config.test_evaluator.update(iou_metrics=['mIoU', 'mDice'], nan_to_num=0, prefix='x')
    config.env_cfg.dist_cfg.backend = 'gloo'
    second = copy.deepcopy(config)
    second.test_evaluator = [dict(config.test_evaluator, prefix='a'), dict(config.test_evaluator, prefix='b')]
    with pytest.raises(ConfigError, match='test_evaluator has 2 metrics'):
        run(second, resume=True)
    result = run(config, resume=True)
    assert counted(result) == counts_of(data) and 'mDice' in result['metrics']


def test_two_label_maps_of_one_image_are_two_samples(config, data, monkeypatch, tmp_path):
    root = tmp_path / 'twice'
    shutil.copytree(data, root)
    shutil.copytree(root / 'annotations', root / 'others')
    Image.new('L', (32, 24), 5).save(root / 'others' / '0.png')
    one = dict(config.test_dataloader.dataset, data_root=str(root))
    other = dict(one, data_prefix=dict(img_path='images', seg_map_path='others'))
    config.test_dataloader.dataset = dict(type='ConcatDataset', datasets=[one, other])
    whole = run(config)
    assert '9 of 14 images' in str(interrupted(config, monkeypatch, 9))
    assert run(config, resume=True)['classes'] == whole['classes']


def test_what_is_recorded_is_drawn_and_written(config, monkeypatch, tmp_path):
    """An interrupt while a picture is drawn leaves its image to the resumed run."""
    config.test_evaluator.output_dir = str(tmp_path / 'maps')
    config.test_dataloader.dataset.indices = 3
    pictures = dict(type='PredictionVisualizationHook', draw=True, out_dir=str(tmp_path / 'pictures'))
    config.default_hooks.visualization = pictures
    draw, calls = PredictionVisualizationHook.after_test_iter, []

    def draw_one(self, *args, **kwargs):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        draw(self, *args, **kwargs)

    monkeypatch.setattr(PredictionVisualizationHook, 'after_test_iter', draw_one)
    with pytest.raises(Interrupted, match='1 of 3 images'):
        run(config)
    run(config, resume=True)
    assert stems(tmp_path / 'maps') == stems(tmp_path / 'pictures') == ['0', '1', '2']


class OwnLoop(PlainLoop):
    """A loop of a user's."""


@pytest.mark.parametrize('loop', ['mmengine.TestLoop', 'OwnLoop'])
def test_loops_and_samplers_are_known_by_what_they_are(config, data, monkeypatch, loop):
    config.test_cfg = dict(type=loop)
    config.test_dataloader.sampler = dict(type='mmengine.DefaultSampler', shuffle=False)
    monkeypatch.setitem(LOOPS.module_dict, 'OwnLoop', OwnLoop)
    interrupted(config, monkeypatch, 3)
    assert counted(run(config, resume=True)) == counts_of(data)
    if loop == 'OwnLoop':
        with pytest.raises(ConfigError, match='--on-error skip is the work of EvaluationLoop'):
            run(config, on_error='skip')


def test_sigterm_ends_as_sigint_does(config, monkeypatch):
    error = interrupted(config, monkeypatch, 2, lambda: os.kill(os.getpid(), signal.SIGTERM) or RuntimeError)
    assert error.signum == signal.SIGTERM and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_names_of_label_maps_are_settled_for_all_processes(config, monkeypatch, tmp_path):
    """One of two processes sees only the second image of a name, and must not take the name of the first."""
    config.test_evaluator.output_dir = str(tmp_path / 'maps')
    monkeypatch.setattr(loop, 'get_dist_info', lambda: (0, 2))
    run(config)
    assert stems(tmp_path / 'maps') == ['0', '2', '4', 'same-2']


@pytest.fixture
def damaged(config, data, tmp_path):
    """The config on a copy of the data, in which one image is cut off and one label map is missing."""
    root = tmp_path / 'damaged'
    shutil.copytree(data, root)
    image = root / 'images' / '2.png'
    image.write_bytes(image.read_bytes()[:-200])
    (root / 'annotations' / '4.png').unlink()
    config.test_dataloader.dataset.data_root = str(root)
    return config


def test_skip_leaves_them_out(damaged, data):
    damaged.test_dataloader.batch_size = 3
    whole = dict(damaged.test_dataloader.dataset)
    repeated = dict(type='RepeatDataset', times=1, dataset=dict(whole, indices=[3, 4, 5, 6]))
    damaged.test_dataloader.dataset = dict(type='ConcatDataset', datasets=[dict(whole, indices=[0, 1, 2]), repeated])
    result = run(damaged, on_error='skip')
    assert result['images'] == 5 and any('4.png' in sample['reason'] for sample in result['skipped'])
    assert counted(result) == counts_of(data, ('2', '4'))


def test_what_was_skipped_is_remembered_by_a_resumed_run(damaged, data, monkeypatch):
    with pytest.raises(BadFileError, match='2.png'):
        run(damaged)
    assert '4 of 7 images' in str(interrupted(damaged, monkeypatch, 4, on_error='skip', resume=True))
    result = run(damaged, on_error='skip', resume=True)
    assert counted(result) == counts_of(data, ('2', '4')) and result['images'] == 5
    assert sorted(Path(sample['image']).stem for sample in result['skipped'] if sample['reason']) == ['2', '4']


def full(*args, **kwargs):
    raise OSError(errno.ENOSPC, 'No space left on device')


def test_a_full_disk_does_not_end_the_counting(config, data, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(Journal, '_open', full)
    config.test_evaluator.output_dir = str(tmp_path / 'maps')
    monkeypatch.setattr('mmseg_sclip.files.os.replace', full)
    result = run(config)
    assert counted(result) == counts_of(data)
    assert any('7 files of --out' in line for line in result['unwritten'])
    assert any('result.json' in line and 'No space left' in line for line in result['unwritten'])
    assert 'counted again if it is interrupted' in capsys.readouterr().out


def test_counts_outlive_a_result_that_cannot_be_written(config, data, monkeypatch):
    def refuse(*args):
        raise output_error('result.json', OSError(28, 'No space left on device'))

    with monkeypatch.context() as patch:
        patch.setattr(evaluation, 'write_result', refuse)
        (sentence,) = run(config)['unwritten']
    assert 'No space left' in sentence and '--resume' in sentence
    monkeypatch.setattr(Journal, 'add', None)  # nothing is tested again
    assert counted(run(config, resume=True)) == counts_of(data)
    assert (Path(config.work_dir) / 'result.json').exists() and not (Path(config.work_dir) / 'journal').exists()


def test_a_work_folder_that_cannot_be_written(config, data, tmp_path):
    (tmp_path / 'file').touch()
    config.work_dir = str(tmp_path / 'file' / 'work')
    result = run(config)
    (sentence,) = result['unwritten']
    assert counted(result) == counts_of(data) and 'file is a file' in sentence
    folder = Path(sentence.split('The files of this run are in ')[1].rstrip('.'))
    assert json.loads((folder / 'result.json').read_text())['classes'] == result['classes']
    shutil.rmtree(folder)


@pytest.fixture
def clip(shipped, tmp_path):
    """The demo itself, on two small scenes."""
    config = copy.deepcopy(shipped)
    config.test_dataloader.dataset.update(count=2, size=48)
    config.work_dir = str(tmp_path / 'work')
    return config


def test_the_demo_ends_with_what_its_number_is_compared_with(clip, capsys, tmp_path):
    def last_line():
        return capsys.readouterr().out.splitlines()[-1]

    run(clip)
    command = 'In one picture: mmseg-sclip compare clip_demo maskclip_demo sclip_demo --images 000000'
    assert last_line().startswith(f'For comparison, other attentions. {command}')
    clip.default_hooks.references.update(
        scenes=dict(purpose='evaluation', seed=0, count=2, size=48, max_regions=6),
        miou=dict(clip_demo=1.234, maskclip_demo=50),
    )
    run(clip)
    assert last_line().startswith(
        f'For comparison, mIoU on the same scenes: clip_demo 1.23, maskclip_demo 50.00. {command}'
    )
    other = copy.deepcopy(clip)
    other.work_dir = str(tmp_path / 'other')
    evaluation.evaluate_methods([clip, other], 'cpu')
    assert 'For comparison' not in capsys.readouterr().out
    clip.test_dataloader.dataset.indices = 1
    run(clip)
    assert 'For comparison, other attentions.' in last_line()


def test_one_view_of_ones_own_is_the_plain_test_and_all_views_are_not(clip):
    plain, views = run(clip), run(clip, tta=True)
    assert views['classes'] != plain['classes'] and views['fingerprint'] != plain['fingerprint']
    assert [entry['truth'] for entry in views['classes']] == [entry['truth'] for entry in plain['classes']]
    assert len(views['settings']['test_dataloader']['dataset']['pipeline'][-1]['transforms'][0]) == 4
    view = [[dict(type='Resize', scale_factor=1.0, keep_ratio=True)], [dict(type='LoadLabelMap')]]
    view = dict(type='TestTimeAug', transforms=[*view, [dict(type='PackSegInputs')]])
    clip.tta_pipeline = [clip.test_pipeline[0], view]
    assert run(clip, tta=True)['classes'] == plain['classes']
    clip.pop('tta_model')
    with pytest.raises(ConfigError, match='--tta needs tta_model'):
        run(clip, tta=True)


def runner_of(vocabulary, classes):
    loader = SimpleNamespace(dataset=SimpleNamespace(metainfo=dict(classes=classes)))
    model = SimpleNamespace(decode_head=SimpleNamespace(vocabulary=vocabulary))
    return SimpleNamespace(model=model, test_dataloader=loader, val_dataloader=loader)


@pytest.mark.parametrize('cascade', [False, True])
def test_a_head_must_have_the_datasets_number_of_classes(cascade):
    hook = VocabularyCheckHook()
    for check in (hook.before_test, hook.before_val):
        check(runner_of(load_vocabulary(['a', 'b']), ('x', 'y')))
        with pytest.raises(ValueError, match='has 2 classes, but the dataset SimpleNamespace has 3 .from x to z.'):
            check(runner_of(load_vocabulary(['a', 'b']), ('x', 'y', 'z')))
    runner, head = runner_of(None, ('x', 'y', 'z')), torch.nn.Identity()  # a trained head
    head.num_classes = 19
    runner.model.decode_head = torch.nn.ModuleList([torch.nn.Identity(), head]) if cascade else head
    with pytest.raises(ValueError, match='The decode head Identity has 19 classes, but the dataset .* has 3'):
        hook.before_test(runner)
    runner.model = SimpleNamespace()  # other models are left alone
    hook.before_test(runner)


@pytest.mark.parametrize('terminal', [True, False])
def test_a_bar_shows_the_progress_of_a_test_on_a_terminal(monkeypatch, terminal):
    stream = io.StringIO()
    stream.isatty = lambda: terminal
    monkeypatch.setattr('sys.stderr', stream)
    runner = SimpleNamespace(test_dataloader=SimpleNamespace(dataset=range(9), sampler=range(3)))
    hook = ProgressHook()
    hook.before_test_epoch(runner)
    hook.after_test_iter(runner, 0, outputs=[1, 2])
    assert ('2/3' in stream.getvalue()) == terminal
    hook.after_test_iter(runner, 1, outputs=[3])
    hook.after_test_epoch(runner)
    assert ('3/3' in stream.getvalue()) == terminal == bool(stream.getvalue())


def test_a_result_has_the_precision_that_the_source_of_the_towers_names():
    parts = dict(versions={}, device='cpu', weights=dict(precision='bf16'), settings={})
    own = Config(dict(model=dict(clip=dict(type='AnySource')), work_dir='own'))
    assert measured.Measured(own, None, parts, None).result(2, 1.0, [])['precision'] == 'bf16'
    assert measured.Measured(own, None, parts | dict(weights=None), None).result(2, 1.0, [])['precision'] == 'fp32'
