"""The learned projection: what is trained, what is saved, and that both tools and the API read it again."""

import os
import subprocess
import sys
from pathlib import Path

import mmcv
import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.structures import PixelData
from mmseg.apis import init_model
from mmseg.registry import HOOKS, MODELS
from mmseg.structures import SegDataSample
from PIL import Image

from mmseg_sclip import paths
from mmseg_sclip.cli.main import main
from mmseg_sclip.config import load_config
from mmseg_sclip.engine.learning import train_projection
from mmseg_sclip.files import is_ours

ROOT = Path(__file__).resolve().parents[2]
KEY = 'backbone.decoder.attention.projections.0.matrix'


@HOOKS.register_module()
class SpyHook(Hook):
    """Looks at the model before and during a training, and may interrupt it."""

    seen = {}

    def __init__(self, stop_at=None):
        self.stop_at = stop_at

    def before_train(self, runner):
        optimized = [p for group in runner.optim_wrapper.param_groups for p in group['params']]
        self.seen.update(before=copies(runner.model), optimized=optimized, losses=[], model=runner.model)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.seen['losses'].append(outputs['loss'].item())
        if runner.iter + 1 == self.stop_at:
            raise KeyboardInterrupt


def copies(model):
    """All tensors of a model, but the vectors of words, which are encoded at first use."""
    return {name: value.detach().clone() for name, value in model.state_dict().items() if 'text_bank' not in name}


def small(iterations=4, scenes=4, crop=96, **options):
    """The demo's config on a few scenes and iterations."""
    settings = {
        'train_dataloader.dataset.count': scenes,
        'train_dataloader.dataset.indices': scenes,
        'train_dataloader.batch_size': min(2, scenes),
        'test_dataloader.dataset.count': 3,
        'test_dataloader.num_workers': 0,
        'train_cfg.max_iters': iterations,
        'param_scheduler.0.end': iterations,
        'default_hooks.logger.interval': 1000,
    }
    config = load_config('sclip_learned_demo', {**settings, **options})
    config.train_dataloader.dataset.pipeline[3].crop_size = (crop, crop)
    config.custom_hooks = [dict(type='SpyHook')]
    return config


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """Folder, config file, checkpoint, and what the spy saw."""
    folder = tmp_path_factory.mktemp('learned')
    config = small()
    checkpoint = train_projection(config, folder / 'run', device='cpu')
    config.dump(folder / 'config.py')
    return folder, folder / 'config.py', checkpoint, dict(SpyHook.seen)


def matrix(path):
    return torch.load(path, weights_only=True)['state_dict'][KEY]


def test_only_the_projection_changes_and_is_saved(trained):
    _, _, path, seen = trained
    after, saved = copies(seen['model']), torch.load(path, weights_only=True)
    assert set(after) == set(seen['before'])
    assert [name for name in after if not torch.equal(after[name], seen['before'][name])] == [KEY]
    assert sum(seen['losses'][2:]) < sum(seen['losses'][:2])  # each scene once before, once after
    assert len(seen['optimized']) == 1 and seen['optimized'][0] is dict(seen['model'].named_parameters())[KEY]
    assert set(saved) == {'meta', 'state_dict'} and set(saved['meta']) == {'software', 'dataset_meta'}
    classes = saved['meta']['dataset_meta']['classes']
    assert classes == list(seen['model'].dataset_meta['classes']) and len(classes) == 12
    assert list(saved['state_dict']) == [KEY] and torch.equal(matrix(path), seen['optimized'][0])
    assert is_ours(path) and [file.name for file in path.parent.glob('*.pth')] == ['projection.pth']


@pytest.mark.slow
def test_the_command_trains_alike_and_test_and_init_model_read_it(trained, tmp_path, capsys, monkeypatch):
    _, config, path, seen = trained
    program, arguments = str(ROOT / 'tools' / 'train.py'), ['--device', 'cpu', '--work-dir', str(path.parent)]
    monkeypatch.setattr(sys, 'argv', [program])
    options = ['--cfg-options', 'model.test_cfg.logit_scale=40', 'log_level=INFO']
    assert main(['train', str(config), *arguments, *options]) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [
        f'The checkpoint is {path}',
        f'Test it: python {ROOT}/tools/test.py {config} {path} --cfg-options model.test_cfg.logit_scale=40',
    ]
    assert torch.equal(matrix(path), seen['optimized'][0])  # seed 0 by default
    assert main(['test', str(config), str(path), '--out', str(tmp_path / 'maps'), *arguments]) == 0
    models = seen['model'], init_model(str(config), str(path), device='cpu'), init_model(str(config), device='cpu')
    changed = []
    for scene in sorted((paths.cache_root() / 'scenes').glob('*evaluation-seed0*-3-*/images/*')):
        pixels = dict(inputs=[torch.from_numpy(mmcv.imread(scene)).permute(2, 0, 1)])
        with torch.no_grad():
            ours, read, start = (net.eval().test_step(pixels)[0].pred_sem_seg.data[0].numpy() for net in models)
        written = np.asarray(Image.open(tmp_path / 'maps' / f'{scene.stem}.png'))
        assert np.array_equal(ours, read) and np.array_equal(written, ours)
        changed.append((ours != start).any())
    assert len(changed) == 3 and any(changed)
    assert ''.join(capsys.readouterr()).count('still at its start') == 1  # the model without a checkpoint


def test_an_interrupted_training_goes_on_as_if_it_had_not_been(trained, tmp_path):
    """The optimizer's momentum and the order of the crops are those of the whole training."""
    *_, whole, seen = trained
    settings = {'default_hooks.checkpoint': dict(interval=2)}

    def train(**options):
        return train_projection(small(**settings, **options), tmp_path, device='cpu', resume=True)

    broken = small(**settings)
    broken.custom_hooks = [dict(type='SpyHook', stop_at=3)]
    with pytest.raises(KeyboardInterrupt):
        train_projection(broken, tmp_path, device='cpu')
    assert [file.name for file in tmp_path.glob('*.pth')] == ['unfinished.pth']
    for key, was, value in (('optim_wrapper.optimizer.lr', 0.003, 2), ('param_scheduler.0.power', 1.0, 2)):
        with pytest.raises(ValueError, match=f'belongs to a training with.*{key.partition(".")[0]}.* was .*{was}'):
            train(**{key: value})
    path = train()
    assert len(SpyHook.seen['losses']) == 2 and SpyHook.seen['losses'] == seen['losses'][2:]
    assert torch.equal(matrix(path), matrix(whole))
    assert [file.name for file in tmp_path.glob('*.pth')] == ['projection.pth']


def test_another_seed_is_another_training(trained, tmp_path):
    config = small()
    config.custom_hooks = [dict(type='SpyHook', stop_at=2)]
    config.default_hooks.checkpoint = dict(interval=1)
    with pytest.raises(KeyboardInterrupt):
        train_projection(config, tmp_path, seed=1, device='cpu')
    assert SpyHook.seen['losses'][0] != trained[3]['losses'][0]
    with pytest.raises(ValueError, match='settings.randomness.seed was 1 and is 0; seed was 1 and is 0'):
        train_projection(small(), tmp_path, device='cpu', resume=True)


@pytest.mark.slow
def test_two_processes_train_as_one_with_twice_the_batch(tmp_path):
    trained = []
    for processes, batch in ((1, 4), (2, 2)):  # whole scenes: nothing is drawn at random
        config = small(4, crop=192, **{'train_dataloader.batch_size': batch})
        config.custom_hooks = []
        config.dump(tmp_path / 'config.py')
        folder = tmp_path / str(processes)
        command = ['tools/train.py', tmp_path / 'config.py', '--work-dir', folder, '--device', 'cpu']
        if processes > 1:
            torchrun = ['-m', 'torch.distributed.run', f'--nproc_per_node={processes}', '--standalone']
            command = [*torchrun, *command, '--launcher', 'pytorch']
        environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
        said = subprocess.check_output([sys.executable, *map(str, command)], cwd=ROOT, env=environment, text=True)
        assert said.count('The checkpoint is') == 1
        assert [file.name for file in folder.glob('*.pth')] == ['projection.pth']
        trained.append(matrix(folder / 'projection.pth'))
    start = MODELS.build(small().model).state_dict()[KEY]
    torch.testing.assert_close(*trained, rtol=0, atol=1e-5)
    assert (trained[0] - start).abs().max() > 1e-3  # far more than the two differ


def test_a_training_that_diverges_is_an_error(tmp_path):
    with pytest.raises(ValueError, match='diverged'):
        train_projection(small(2, **{'optim_wrapper.optimizer.lr': 1e30}), tmp_path, device='cpu')
    assert not list(tmp_path.glob('*.pth'))


OPTIONS = ['sclip_learned_demo', '--cfg-options']


@pytest.mark.parametrize(
    'argv, words',
    [
        (['mmseg::segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py'], ['of type EncoderDecoder']),
        (['sclip_demo'], ['has no train_dataloader', 'sclip_learned_demo', 'sclip_learned_voc21']),
        (['sclip_learned_demo', '--amp'], ['--amp is not supported']),
        (['sclip_learned_demo', '--data-root', 'nowhere'], ['nowhere does not exist', 'train_dataloader']),
        ([*OPTIONS, 'model.backbone.decoder.attention.projections=[q]'], ['no trainable parameter', OPTIONS[0]]),
        ([*OPTIONS, 'randomness.seed=3'], ['randomness.seed would change nothing', '--seed']),
    ],
    ids=str,
)
def test_wrong_commands_end_with_the_reason(argv, words, tmp_path, capsys):
    argv = [*argv, 'train_dataloader.dataset.count=2'] if 'projections' in argv[-1] else argv
    assert main(['train', *argv, '--work-dir', str(tmp_path)]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert all(word in line for word in words), line
    assert not list(tmp_path.glob('*.pth'))


def test_a_crop_without_known_pixels_counts_nothing():
    model = MODELS.build(load_config('sclip_learned_demo').model).train()
    sample = SegDataSample(gt_sem_seg=PixelData(data=torch.full((1, 64, 64), 255)))
    losses = model.loss([torch.zeros(3, 64, 64)], [sample])
    losses['decode.loss_ce'].backward()
    assert losses['decode.loss_ce'] == 0
    assert not model.get_parameter(KEY).grad.any()
