"""Files of weights: every format gives the same numbers, and no code in a file is ever run."""

import math
import pickle
import re
import sys
import zipfile

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mmseg_sclip.errors import BadFileError
from mmseg_sclip.models.clip import ClipSource, weights
from mmseg_sclip.models.clip.torchscript import read_torchscript
from mmseg_sclip.models.clip.weights import read_weights

pytestmark = pytest.mark.filterwarnings('ignore:.torch.jit:FutureWarning')


class Anything(nn.Module):
    """What a TorchScript archive can hold."""

    def __init__(self, dtype=torch.float32):
        super().__init__()
        self.turned = nn.Parameter(torch.randn(6, 4).t())
        self.part = nn.Parameter(torch.randn(4, 8)[:, 2:5])
        self.empty = nn.Parameter(torch.randn(0, 3))
        self.same = self.turned
        self.layers = nn.ModuleList([nn.Linear(4, 4), nn.Sequential(nn.LayerNorm(4))])
        self.register_buffer('input_resolution', torch.tensor(224))
        self.register_buffer('flags', torch.tensor([True, False]))
        self.to(dtype)
        self.mask = torch.full((2, 2), float('-inf'))  # neither a parameter nor a buffer
        self.number, self.words, self.tensors, self.device = 3, ['x'], [torch.ones(1)], torch.device('cpu')

    def forward(self, x):
        y = x + self.turned.sum() + self.part.sum() + self.same.sum() + self.empty.sum() + self.input_resolution
        y = y + self.mask[1, 0] + self.tensors[0] + self.number + len(self.words) + int(self.flags[0])
        for layer in self.layers:
            y = layer(y)
        return y.to(self.device)


class Tree(nn.Module):
    """A module with given parameters, under dotted names."""

    def __init__(self, state):
        super().__init__()
        for name, value in state.items():
            *parents, leaf = name.split('.')
            owner = self
            for parent in parents:
                owner._modules.setdefault(parent, Tree({}))
                owner = owner._modules[parent]
            owner.register_parameter(leaf, nn.Parameter(value))

    def forward(self, x):
        return x


def rewritten(source, target, change):
    """A copy of a zip whose entries went through `change(name, content)`; None leaves one out."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, 'w') as new:
        for name in old.namelist():
            content = change(name.partition('/')[2], old.read(name))
            if content is not None:
                new.writestr(name, content)
    return target


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert (found[name].dtype, found[name].stride()) == (value.dtype, value.stride())
        assert torch.equal(found[name], value)


@pytest.mark.parametrize('kind', [torch.float16, torch.bfloat16, torch.float64])
def test_an_archive_gives_what_torch_jit_gives(tmp_path, kind):
    torch.jit.script(Anything(kind)).save(tmp_path / 'archive.pt')
    found, expected = read_torchscript(tmp_path / 'archive.pt'), torch.jit.load(tmp_path / 'archive.pt').state_dict()
    assert_same(found, expected)
    assert found['same'].data_ptr() == found['turned'].data_ptr()


@pytest.fixture(scope='module')
def archive(tmp_path_factory):
    """A TorchScript archive of `Anything`."""
    path = tmp_path_factory.mktemp('archive') / 'ViT-B-16.pt'
    torch.jit.script(Anything()).save(path)
    return path


def test_archives_of_other_machines_and_other_versions(tmp_path, archive):
    expected = torch.jit.load(archive).state_dict()
    other = 'big' if sys.byteorder == 'little' else 'little'

    def swap(name, content):
        if name == 'byteorder':
            return other.encode()
        if name.startswith('data/') and content:  # of float32 here, but for a tensor of int64 and one of bool
            width = {8: 8, 2: 1}.get(len(content), 4)
            return b''.join(content[i : i + width][::-1] for i in range(0, len(content), width))
        return content

    def without_names(name, content):  # of buffers and of the order of bytes
        content = re.sub(rb'.*__buffers__.*\n', b'', content) if name.endswith('.py') else content
        return None if name == 'byteorder' else content

    for change in (swap, without_names):
        found = read_torchscript(rewritten(archive, tmp_path / 'changed.pt', change))
        assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.fixture
def files(tmp_path):
    """The forms of a file that are in use, as functions of a state dict that return the file."""

    def wrapped(state, path):  # as open_clip's training saves it, whose learning rate is a number of NumPy
        rate = np.float64(1e-3) if hasattr(torch.serialization, 'safe_globals') else 1e-3  # read since torch 2.5
        more = dict(epoch=3, optimizer=dict(param_groups=[dict(lr=rate)]))
        torch.save(dict(more, state_dict={f'module.{key}': value for key, value in state.items()}), path)

    forms = dict(
        zip=torch.save,
        old=lambda state, path: torch.save(state, path, _use_new_zipfile_serialization=False),
        wrapped=wrapped,
        scripted=lambda state, path: torch.jit.script(Tree(state)).save(path),
        safetensors=lambda state, path: save_file({key: value.contiguous() for key, value in state.items()}, path),
    )

    def save(form, state, name='weights.bin'):  # the name does not tell the form
        forms[form](state, tmp_path / name)
        return tmp_path / name

    return save


FORMS = ['zip', 'old', 'wrapped', 'scripted', 'safetensors']
SMALL = dict(weight=torch.arange(2000.0).view(50, 40), other=torch.ones(3, 4))


@pytest.mark.parametrize('form', FORMS)
def test_every_form_gives_the_same_and_what_is_damaged_or_not_finite_is_refused(
    files, form, mini_json, mini_state, monkeypatch
):
    half = {name: value.half() for name, value in mini_state.items()}  # the recipe's numbers are exact in float16
    source = ClipSource(model_name=mini_json, pretrained=files(form, half, 'clip.pt'))
    towers = {f'visual.{name}': value for name, value in source.visual.state_dict().items()}
    towers |= source.text_tower().state_dict()
    assert_same(towers, {name: mini_state[name] for name in towers})
    assert {name for name in mini_state if name not in towers} <= {'logit_scale'}
    for value in (float('nan'), -float('inf')):
        broken = SMALL['weight'].clone()
        broken[-1, -1] = value
        path = files(form, {**SMALL, 'weight': broken})
        with pytest.raises(BadFileError, match=f"{path.name} cannot be used: its entry 'weight' holds NaN"):
            read_weights(path)
    path = files(form, SMALL)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(BadFileError, match=rf'{path.name} cannot be read as weights.*damaged.*[Ff]etch it again'):
        read_weights(path)
    monkeypatch.setattr(weights, '_PACKAGE', path.parent.resolve())  # as if it shipped with the package
    with pytest.raises(BadFileError, match='belongs to mmseg_sclip: install the package again'):
        read_weights(path)


def test_who_made_a_file_is_told_where_it_can_be_and_a_mask_is_not_a_weight(files):
    assert read_weights(files('scripted', SMALL)).from_openai is True
    assert read_weights(files('zip', {**SMALL, 'context_length': torch.tensor(77)})).from_openai is True
    assert read_weights(files('zip', SMALL)).from_openai is None
    state = {**SMALL, 'attn_mask': torch.full((77, 77), float('-inf')).triu(1)}
    assert set(read_weights(files('zip', state)).state_dict) == set(SMALL)


def test_odd_states_of_an_archive_do_no_harm(tmp_path, archive):
    for state in ((None, dict(attributes=5)), dict(weight=5, __setstate__=None), [('weight', 1)], 'text'):
        pickled = b'\x80\x02c__torch__\nM\n)\x81' + pickle.dumps(state, protocol=2)[2:-1] + b'b.'
        change = {'data.pkl': pickled}.get
        path = rewritten(archive, tmp_path / 'odd.pt', lambda name, old, change=change: change(name, old))
        with pytest.raises(BadFileError, match='odd.pt holds'):
            read_weights(path)


def test_files_without_a_state_dict_and_tensors_beyond_their_storage_are_refused(tmp_path, archive):
    path = rewritten(
        archive, tmp_path / 'x.pt', lambda name, old: old[: len(old) // 8 * 4] if name.startswith('data/') else old
    )
    with pytest.raises(BadFileError, match='cannot be read as weights'):
        read_weights(path)
    path.write_text('hello')
    with pytest.raises(BadFileError, match=r'as weights \(it is no file of torch or safetensors\)'):
        read_weights(path)
    for content in ({'a': 1}, [torch.zeros(2)], {'state_dict': {}}, {'epoch': 3, 'w': torch.ones(1)}):
        torch.save(content, path)
        with pytest.raises(BadFileError, match='x.pt holds a'):
            read_weights(path)


def test_custom_text_towers_load_from_both_namings(tmp_path, mini_json, mini_state, files):
    (tmp_path / 'custom.json').write_text(mini_json.read_text().replace('{', '{"custom_text": true, ', 1))
    tokens, outputs = open_clip.tokenize(['a cat']), []
    for state in (mini_state, open_clip.model.convert_to_custom_text_state_dict(dict(mini_state))):
        source = ClipSource(model_name=tmp_path / 'custom.json', pretrained=files('zip', state))
        outputs.append(source.text_tower().encode_text(tokens))
    assert torch.equal(*outputs)


def test_what_cosines_were_multiplied_with(files, mini_json, mini_state):
    state = {name: value for name, value in mini_state.items() if name != 'logit_scale'}
    one = torch.tensor([3.0]).half()
    for stored, expected in ((torch.tensor(3.0), math.exp(3)), (one, math.exp(3)), (None, 100), (torch.zeros(2), 100)):
        path = files('zip', state if stored is None else {**state, 'logit_scale': stored})
        source = ClipSource(model_name=str(mini_json), pretrained=str(path))
        assert source.text_encoder().logit_scale == pytest.approx(expected)  # also before any tower was built
        source.release()
        assert source.text_encoder().logit_scale == pytest.approx(expected)
