"""Files of weights: every format gives the same numbers, and nothing in a file is ever run."""

import io
import math
import os
import pickle
import sys
import tarfile
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
        self.scalar = nn.Parameter(torch.tensor(4.6))
        self.empty = nn.Parameter(torch.randn(0, 3))
        self.same = self.turned
        self.layers = nn.ModuleList([nn.Linear(4, 4), nn.Sequential(nn.LayerNorm(4))])
        self.register_buffer('input_resolution', torch.tensor(224))
        self.register_buffer('flags', torch.tensor([True, False]))
        self.to(dtype)
        self.mask = torch.full((2, 2), float('-inf'))  # neither a parameter nor a buffer
        self.number, self.words, self.tensors = 3, ['x'], [torch.ones(1)]
        self.device = torch.device('cpu')

    def forward(self, x):
        y = x + self.turned.sum() + self.part.sum() + self.scalar + self.same.sum() + self.empty.sum()
        y = y + self.mask[1, 0] + self.tensors[0] + self.input_resolution + self.number + len(self.words)
        if bool(self.flags[0]):
            y = y + 1
        for layer in self.layers:
            y = layer(y)
        return y.to(self.device)


class Nested(nn.Module):
    """A module with given parameters and buffers, under dotted names."""

    def __init__(self, state):
        super().__init__()
        children = {}
        for name, value in state.items():
            first, dot, rest = name.partition('.')
            if dot:
                children.setdefault(first, {})[rest] = value
            elif value.is_floating_point():
                self.register_parameter(first, nn.Parameter(value))
            else:
                self.register_buffer(first, value)
        for name, part in children.items():
            self.add_module(name, Nested(part))

    def forward(self, x):
        return x


@pytest.fixture(scope='module')
def archive(tmp_path_factory):
    """A TorchScript archive of `Anything`."""
    path = tmp_path_factory.mktemp('archive') / 'ViT-B-16.pt'
    torch.jit.script(Anything()).save(path)
    return path


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


@pytest.mark.parametrize('kind', [torch.float32, torch.float16, torch.bfloat16, torch.float64, 'traced'], ids=str)
def test_an_archive_gives_what_torch_jit_gives(tmp_path, kind):
    if kind == 'traced':
        model = nn.Sequential(nn.Conv2d(3, 4, 2), nn.Flatten(2), nn.Linear(9, 2).half().float(), nn.LayerNorm(2))
        archive = torch.jit.trace(model, torch.randn(1, 3, 4, 4))
    else:
        archive = torch.jit.script(Anything(kind))
    archive.save(tmp_path / 'archive.pt')
    found = read_torchscript(tmp_path / 'archive.pt')
    assert_same(found, torch.jit.load(tmp_path / 'archive.pt').state_dict())
    assert kind == 'traced' or found['same'].data_ptr() == found['turned'].data_ptr()


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
        if name == 'byteorder':
            return None
        lines = content.splitlines(keepends=True) if name.endswith('.py') else [content]
        return b''.join(line for line in lines if b'__buffers__' not in line or not name.endswith('.py'))

    for change in (swap, without_names):
        found = read_torchscript(rewritten(archive, tmp_path / 'changed.pt', change))
        assert all(torch.equal(found[name], expected[name]) for name in expected)
    with zipfile.ZipFile(archive) as file:
        assert 'byteorder' in {name.partition('/')[2] for name in file.namelist()}


@pytest.fixture
def files(tmp_path):
    """The forms of a file that are in use, as functions of a state dict that return the file."""

    def saved(name, **options):
        def save(state):
            torch.save(state, tmp_path / name, **options)
            return tmp_path / name

        return save

    def wrapped(state):  # as open_clip's training saves it, whose learning rate is a number of NumPy
        rate = np.float64(1e-3) if hasattr(torch.serialization, 'safe_globals') else 1e-3  # read since torch 2.5
        more = dict(epoch=3, optimizer=dict(param_groups=[dict(lr=rate)]))
        return saved('wrapped.pt')(dict(more, state_dict={f'module.{key}': value for key, value in state.items()}))

    def scripted(state):
        torch.jit.script(Nested(state)).save(tmp_path / 'ViT-B-16.pt')
        return tmp_path / 'ViT-B-16.pt'

    def safe(name):
        def save(state):
            save_file({key: value.contiguous() for key, value in state.items()}, tmp_path / name)
            return tmp_path / name

        return save

    return dict(
        zip=saved('zip.pt'),
        old=saved('old.pth', _use_new_zipfile_serialization=False),
        wrapped=wrapped,
        scripted=scripted,
        safetensors=safe('w.safetensors'),
        renamed=safe('w.bin'),
    )


FORMS = ['zip', 'old', 'wrapped', 'scripted', 'safetensors', 'renamed']


@pytest.mark.parametrize('form', FORMS)
def test_every_form_gives_the_same_towers(files, form, mini_json, mini_state):
    half = {name: value.half() for name, value in mini_state.items()}  # the recipe's numbers are exact in float16
    source = ClipSource(model_name=mini_json, pretrained=files[form](half))
    towers = {f'visual.{name}': value for name, value in source.visual.state_dict().items()}
    towers |= source.text_tower().state_dict()
    assert_same(towers, {name: mini_state[name] for name in towers})
    assert {name for name in mini_state if name not in towers} <= {'logit_scale'}


SMALL = dict(weight=torch.arange(2000.0).view(50, 40), other=torch.ones(3, 4))


@pytest.mark.parametrize('form', FORMS)
def test_numbers_that_are_not_finite_and_damaged_files_are_refused(files, form, monkeypatch):
    for value in (float('nan'), float('inf'), -float('inf')):
        broken = SMALL['weight'].clone()
        broken[-1, -1] = value
        path = files[form]({**SMALL, 'weight': broken})
        with pytest.raises(BadFileError, match=f"{path.name} cannot be used: its entry 'weight' holds NaN"):
            read_weights(path)
    path = files[form](SMALL)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(BadFileError, match=rf'{path.name} cannot be read as weights.*damaged.*[Ff]etch it again'):
        read_weights(path)
    monkeypatch.setattr(weights, '_PACKAGE', path.parent.resolve())  # as if it shipped with the package
    with pytest.raises(BadFileError, match='belongs to mmseg_sclip: install the package again'):
        read_weights(path)


def test_who_made_a_file_is_told_where_it_can_be_and_a_mask_is_not_a_weight(files):
    assert read_weights(files['scripted'](SMALL)).from_openai is True
    assert read_weights(files['zip']({**SMALL, 'context_length': torch.tensor(77)})).from_openai is True
    assert read_weights(files['zip'](SMALL)).from_openai is None
    state = {**SMALL, 'attn_mask': torch.full((77, 77), float('-inf')).triu(1)}
    assert set(read_weights(files['zip'](state)).state_dict) == set(SMALL)


class Attack:
    """A pickle of it calls `function(*arguments)` when it is read."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


ATTACKS = dict(
    system=lambda ran: Attack(os.system, f'touch {ran}'),
    evaluate=lambda ran: Attack(eval, f'open({str(ran)!r}, "w").close()'),
    execute=lambda ran: Attack(exec, f'open({str(ran)!r}, "w").close()'),
    open=lambda ran: Attack(open, str(ran), 'w'),
    pickle=lambda ran: Attack(pickle.loads, pickle.dumps(Attack(os.system, f'touch {ran}'))),
    load=lambda ran: Attack(torch.load, str(ran)),
    jit=lambda ran: Attack(torch.jit.load, str(ran)),
    getattr=lambda ran: Attack(getattr, 'text', 'upper'),
)


@pytest.mark.filterwarnings('ignore:Detected pickle protocol:UserWarning')
@pytest.mark.parametrize('place', ['zip', 'old', 'pickle', 'tar', 'archive'])
@pytest.mark.parametrize('attack', ATTACKS)
def test_what_a_pickle_calls_is_never_called(tmp_path, archive, place, attack):
    content, path = ATTACKS[attack](tmp_path / 'ran'), tmp_path / 'weights.pt'
    if place == 'archive':
        pickled = pickle.dumps(content, protocol=2)
        rewritten(archive, path, lambda name, old: pickled if name == 'data.pkl' else old)
    elif place == 'pickle':
        path.write_bytes(pickle.dumps(dict(state_dict=content)))
    elif place == 'tar':
        with tarfile.open(path, 'w') as file:
            for name in ('storages', 'tensors', 'pickle'):
                info = tarfile.TarInfo(name)
                info.size = len(pickle.dumps(content))
                file.addfile(info, io.BytesIO(pickle.dumps(content)))
    else:
        torch.save(dict(w=content), path, _use_new_zipfile_serialization=place == 'zip')
    with pytest.raises(BadFileError, match='cannot be read as weights: .* are not loaded'):
        read_weights(path)
    assert not (tmp_path / 'ran').exists()


class Overwriting(nn.Module):
    """Its archive overwrites a file when `torch.jit.load` reads it."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))

    def forward(self, x):
        return x

    @torch.jit.export
    def __getstate__(self):
        return self.weight, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, bool]) -> None:
        file = torch.from_file('victim', True, 16)
        file.fill_(7.0)
        self.weight, self.training = state[0] + file[0], state[1]


def test_the_code_of_an_archive_is_never_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    victim = tmp_path / 'victim'
    torch.jit.script(nn.Sequential(nn.Linear(2, 2), Overwriting())).save('evil.pt')
    victim.write_bytes(b'mine')
    assert set(read_weights(tmp_path / 'evil.pt').state_dict) == {'0.weight', '0.bias'}
    assert victim.read_bytes() == b'mine'
    torch.jit.load('evil.pt')  # this is what is avoided
    assert victim.read_bytes() != b'mine'


@pytest.mark.parametrize(
    'state', [(None, dict(attributes=5)), dict(weight=5, __setstate__=None), [('weight', 1)], 'text'], ids=str
)
def test_odd_states_of_an_archive_do_no_harm(tmp_path, archive, state):
    pickled = b'\x80\x02c__torch__\nM\n)\x81' + pickle.dumps(state, protocol=2)[2:-1] + b'b.'
    path = rewritten(archive, tmp_path / 'odd.pt', lambda name, old: pickled if name == 'data.pkl' else old)
    with pytest.raises(BadFileError, match='odd.pt holds'):
        read_weights(path)


@pytest.mark.parametrize(
    'content', [{'a': 1}, [torch.zeros(2)], {'state_dict': {}}, {'epoch': 3, 'w': torch.ones(1)}, 'cut'], ids=str
)
def test_files_without_a_state_dict_and_tensors_beyond_their_storage_are_refused(tmp_path, archive, content):
    torch.save(content, tmp_path / 'odd.pt')
    if content == 'cut':
        cut = {True: lambda old: old[: len(old) // 8 * 4], False: lambda old: old}
        rewritten(archive, tmp_path / 'odd.pt', lambda name, old: cut[name.startswith('data/')](old))
    with pytest.raises(BadFileError, match='cannot be read as weights' if content == 'cut' else 'odd.pt holds a'):
        read_weights(tmp_path / 'odd.pt')


def test_custom_text_towers_load_from_both_namings(tmp_path, mini_json, mini_state, files):
    (tmp_path / 'custom.json').write_text(mini_json.read_text().replace('{', '{"custom_text": true, ', 1))
    tokens, outputs = open_clip.tokenize(['a cat']), []
    for state in (mini_state, open_clip.model.convert_to_custom_text_state_dict(dict(mini_state))):
        source = ClipSource(model_name=tmp_path / 'custom.json', pretrained=files['zip'](state))
        outputs.append(source.text_tower().encode_text(tokens))
    assert torch.equal(*outputs)


@pytest.mark.parametrize(
    'stored, expected',
    [(torch.tensor(3.0), math.exp(3)), (torch.tensor([3.0]).half(), math.exp(3)), (None, 100), (torch.zeros(2), 100)],
    ids=['number', 'one entry', 'missing', 'two entries'],
)
def test_what_cosines_were_multiplied_with(files, mini_json, mini_state, stored, expected):
    state = {name: value for name, value in mini_state.items() if name != 'logit_scale'}
    path = files['zip'](state if stored is None else {**state, 'logit_scale': stored})
    source = ClipSource(model_name=str(mini_json), pretrained=str(path))
    assert source.text_encoder().logit_scale == pytest.approx(expected)  # also before any tower was built
    source.release()
    assert source.text_encoder().logit_scale == pytest.approx(expected)
