"""Hooks."""

import io
from types import SimpleNamespace

import pytest
import torch

from mmseg_sclip.engine import ProgressHook, VocabularyCheckHook
from mmseg_sclip.models.text import load_vocabulary


def runner_of(vocabulary, classes):
    dataset = SimpleNamespace(metainfo=dict(classes=classes))
    return SimpleNamespace(
        model=SimpleNamespace(decode_head=SimpleNamespace(vocabulary=vocabulary)),
        test_dataloader=SimpleNamespace(dataset=dataset),
        val_dataloader=SimpleNamespace(dataset=dataset),
    )


@pytest.mark.parametrize('when', ['before_test', 'before_val'])
def test_the_vocabulary_must_have_the_datasets_number_of_classes(when):
    hook = VocabularyCheckHook()
    getattr(hook, when)(runner_of(load_vocabulary(['a', 'b']), ('x', 'y')))
    with pytest.raises(ValueError, match='has 2 classes, but the dataset SimpleNamespace has 3 .from x to z.'):
        getattr(hook, when)(runner_of(load_vocabulary(['a', 'b']), ('x', 'y', 'z')))


@pytest.mark.parametrize('cascade', [False, True])
def test_a_trained_head_must_have_them_too(cascade):
    runner, head = runner_of(None, ('x', 'y', 'z')), torch.nn.Identity()
    head.num_classes = 19
    runner.model.decode_head = torch.nn.ModuleList([torch.nn.Identity(), head]) if cascade else head
    with pytest.raises(ValueError, match='The decode head Identity has 19 classes, but the dataset .* has 3'):
        VocabularyCheckHook().before_test(runner)
    runner.model = SimpleNamespace()  # other models are left alone
    VocabularyCheckHook().before_test(runner)


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
