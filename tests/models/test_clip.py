"""Loading CLIP: what is refused, what is fetched, what is built, in which precision, and at which positions."""

import copy
import json
import re
import sys
from types import ModuleType, SimpleNamespace

import open_clip
import pytest
import torch
from helpers import build, description
from huggingface_hub.errors import EntryNotFoundError
from torch import nn

from mmseg_sclip.errors import ConfigError, MissingFileError, UserError
from mmseg_sclip.models import hub as hub_files
from mmseg_sclip.models.clip import POSITION_RULES, ClipConfig, ClipSource, weights_file
from mmseg_sclip.models.clip.fused import FusedQuickGELU, fuse_block
from mmseg_sclip.models.towers import build_source

LOW = dict(fp16=torch.float16, bf16=torch.bfloat16)


@pytest.fixture
def described(tmp_path):
    """`described(text, quick_gelu=..., **vision)` is the path of a description of the mini CLIP with these changes."""

    def describe(text=None, wrap=dict, quick_gelu=True, **vision):
        content = description(text, **vision)
        (tmp_path / 'model.json').write_text(json.dumps(wrap({**content, 'quick_gelu': quick_gelu})))
        return str(tmp_path / 'model.json')

    return describe


@pytest.fixture
def logged(monkeypatch):
    lines = []
    for module in ('source', 'architecture'):
        monkeypatch.setattr(f'mmseg_sclip.models.clip.{module}.print_log', lambda text, **_: lines.append(text))
    return lines


OPENAI = (
    'were trained with QuickGELU, but {0} is built with GELU; .*Use model_name=.{1}. .as a flag: --model-name {1}.,'
)
QUICK = {'ViT-B/16': 'ViT-B-16-quickgelu', 'ViT-L/14@336px': 'ViT-L-14-336-quickgelu'}
NONE_OF_OURS = ['RN50-quickgelu', 'ViT-B-16-SigLIP', 'convnext_base', 'coca_ViT-B-32', 'EVA02-B-16', 'PE-Core-B-16']


@pytest.mark.parametrize(
    'clip, words',
    [
        (dict(model_name='builtin:x'), "only built-in model is 'builtin:demo'"),
        (dict(model_name='ViT-B-16-quickgelu', pretrianed='openai'), "Did you mean 'pretrained'"),
        (dict(model_name='ViT-B16'), "Did you mean 'ViT-B-16'"),
        (dict(pretrained='openai'), 'model.clip.model_name is None'),
        (dict(model_name='builtin:demo', pretrained='openai'), 'pretrained must be None'),
        (dict(model_name='local-dir:/x'), 'There is no folder /x'),
        (dict(model_name='/x/model.json'), 'There is no model description /x/model.json'),
        (dict(model_name='ViT-B-32-quickgelu', pretrained='laion2b_s34b_b79k'), 'neither a file nor a tag.*openai'),
        (dict(model_name='ViT-B-16', precision='bfloat16'), "Did you mean 'bf16'"),
        (dict(model_name='ViT-B-16', keep_text='no'), 'keep_text'),
        (dict(model_name='ViT-B-16', activation='relu'), "'gelu', 'quick_gelu'"),
        (dict(model_name='ViT-B-16', norm_eps=dict(text=float('inf'))), 'norm_eps'),
        (dict(model_name='ViT-B-16', activation=dict(vision='gelu')), "Unknown key 'vision'"),
        ('ViT-B-16', 'must be a dict'),
        (None, 'The head has no CLIP. Give it clip=dict'),
        (dict(type='ClipSauce', model_name='ViT-B-16'), "'ClipSauce', which is not registered. Did you mean 'Clip"),
        (dict(type='LastBlock'), "has the type 'LastBlock', which is not a kind of TowerSource"),
        *((dict(model_name=name, pretrained='openai'), OPENAI.format(name, quick)) for name, quick in QUICK.items()),
        *((dict(model_name=name), f'{name} cannot be used') for name in NONE_OF_OURS),
    ],
    ids=str,
)
def test_wrong_clips_are_refused(clip, words):
    with pytest.raises(UserError, match=words):
        build_source(clip, 'The head').image_tower()


@pytest.mark.parametrize(
    'change, words',
    [
        (dict(timm_model_name='vit_x'), 'model.json cannot be used: .*timm trunk .vit_x.'),
        (dict(layers=[3, 4, 6, 3]), 'cannot be used: .*ResNet'),
        (dict(attentional_pool=True), 'cannot be used: .*pools by attention'),
        (dict(pool_type='avg'), "cannot be used: .*pool_type='avg'"),
        (dict(final_ln_after_pool=True), 'cannot be used: .*final_ln_after_pool'),
        (dict(qk_norm=True), 'cannot be used: .*custom attention'),
        (dict(layers=4), 'do not fit the arch.*visual.transformer.resblocks.3.* is missing in the file'),
        (dict(layers=2), 'do not fit the arch.*visual.transformer.resblocks.2.* is unknown to the model'),
        (dict(width=64), 'do not fit .*visual.class_embedding is 128 in the file and 64 in the model'),
        (dict(text=dict(context_length=64)), 'positional_embedding is 77x64 in the file and 64x64 in the model'),
    ],
    ids=str,
)
def test_descriptions_that_cannot_work_or_do_not_fit_the_weights(described, mini_weights, change, words):
    with pytest.raises(UserError, match=words):
        ClipSource(model_name=described(**change), pretrained=str(mini_weights)).image_tower()


def test_names_files_and_tags_tell_geometry_context_mean_and_std(described):
    visual = ClipSource(model_name='ViT-L/14@336px').empty_visual()
    assert visual.proj.is_meta and (visual.patch_size, visual.image_size) == ((14, 14), (336, 336))
    own = dict(mean=[0.5, 0.25, 0], std=[1, 0.5, 0.1])
    clip = dict(model_name=described(dict(context_length=16), lambda model: dict(model_cfg=model, preprocess_cfg=own)))
    for source, mean, std in (
        (ClipSource(model_name='ViT-B-32-quickgelu'), (122.771, 116.746, 104.094), (68.501, 66.632, 70.323)),
        (ClipSource(model_name='ViT-L-14', pretrained='laion2b_s32b_b82k'), (127.5, 127.5, 127.5), (127.5,) * 3),
        (ClipSource(**clip), (127.5, 63.75, 0), (255, 127.5, 25.5)),
    ):
        assert (source.mean, source.std) == (mean, std)
    assert source.text_encoder().tokenizer()(['a cat']).shape == (1, 16)
    model = build(source, data_preprocessor=dict(type='CLIPDataPreProcessor', std=(1, 2, 3)))
    assert model.data_preprocessor.mean.flatten().tolist() == list(mean) == list(model.backbone.tower.mean)
    assert model.data_preprocessor.std.flatten().tolist() == [1, 2, 3]


def test_random_weights_are_loud_and_stay_and_the_demo_says_nothing(mini_json, logged):
    assert ClipSource(model_name='builtin:demo').visual.image_size == (96, 96) and not logged
    source = ClipSource(model_name=str(mini_json), pretrained=None)
    first = source.visual
    assert 'RANDOM WEIGHTS' in logged[0]
    source.release()
    del source.__dict__['visual']
    assert source.visual is not first and torch.equal(source.visual.proj, first.proj)


@pytest.fixture
def hub(monkeypatch):
    """A hub that has no file but those that a test puts into the returned dict; under `asked` what it was asked for."""
    files = dict(asked=[])

    def download(repository, name, cache_dir, local_files_only):
        files['asked'].append((repository, name, cache_dir, local_files_only))
        if name not in files:
            raise EntryNotFoundError('it is not there')
        return files[name]

    monkeypatch.setattr(hub_files, 'get_session', lambda: SimpleNamespace(head=lambda *args, timeout: None))
    monkeypatch.setattr(hub_files, 'hf_hub_download', download)
    return files


def test_a_model_is_described_without_its_weights(hub, mini_json, mini_weights, mini_state):
    ClipSource(model_name='ViT-B-16', pretrained='openai').empty_visual()  # nor is their activation asked for
    assert not hub['asked']
    hub['open_clip_config.json'] = mini_json
    source = ClipSource(model_name='hf-hub:a/b', cache_dir='/c')
    assert source.empty_image_tower().patch_size == (16, 16)
    assert hub['asked'] == [('a/b', 'open_clip_config.json', '/c', False)]
    with pytest.raises(
        MissingFileError,
        match='The weights of CLIP hf-hub:a/b are missing and could not be downloaded .it is not there',
    ):
        source.image_tower()
    hub['open_clip_pytorch_model.bin'] = mini_weights
    assert torch.equal(source.visual.proj, mini_state['visual.proj'])


def test_without_a_network_nothing_is_tried_twice_and_an_archive_in_the_cache_stands_in(monkeypatch, tmp_path):
    def wait(seconds):
        raise AssertionError(f'waited for {seconds} seconds')

    monkeypatch.setattr('time.sleep', wait)
    monkeypatch.setattr('huggingface_hub.constants.ENDPOINT', 'http://127.0.0.1:9')  # nobody listens there
    for name in ('NO_PROXY', 'no_proxy'):
        monkeypatch.setenv(name, '*')  # a proxy would answer
    clip = dict(model_name='ViT-B-16-quickgelu', pretrained='openai', cache_dir=str(tmp_path))
    (tmp_path / 'ViT-B-16.pt').write_text('mine')  # the address holds another hash
    words = 'weights of CLIP ViT-B-16-quickgelu .openai. are .*9 cannot be reached.*HF_ENDPOINT.*--weights clip=FILE'

    with pytest.raises(MissingFileError, match=words):
        ClipSource(**clip).image_tower()
    monkeypatch.setattr(weights_file, 'file_hash', lambda path: '5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85')
    assert weights_file.find_weights(ClipConfig.parse(clip)) == tmp_path / 'ViT-B-16.pt'


def test_a_slow_hub_is_waited_for_and_a_missing_one_is_not(monkeypatch, hub):
    files = ('open_clip_model.safetensors', 'open_clip_pytorch_model.bin')
    for error, reachable in (('ReadTimeout', True), ('ConnectTimeout', False)):

        def head(*args, timeout, error=error):
            assert 0 < timeout < 10
            raise type(error, (Exception,), {})('why')

        hub['asked'].clear()
        monkeypatch.setattr(hub_files, 'get_session', lambda head=head: SimpleNamespace(head=head))
        with pytest.raises(MissingFileError, match='it is not there' if reachable else 'cannot be reached: why'):
            ClipSource(model_name='ViT-B-16', pretrained='laion2b_s34b_b88k', cache_dir='/c').image_tower()
        assert hub['asked'] == [('laion/CLIP-ViT-B-16-laion2B-s34B-b88K', name, '/c', not reachable) for name in files]


def test_openai_dicts_need_quick_gelu_unless_another_activation_is_on_purpose(tmp_path, described, mini_state):
    for key in ('input_resolution', 'context_length', 'vocab_size'):
        torch.save({**mini_state, key: torch.tensor(224)}, tmp_path / 'openai.pt')
        clip = dict(model_name=described(quick_gelu=False), pretrained=str(tmp_path / 'openai.pt'))
        with pytest.raises(ConfigError, match='trained with QuickGELU.*"quick_gelu": true'):
            ClipSource(**clip).image_tower()
    assert type(ClipSource(**clip, activation='gelu').visual.transformer.resblocks[0].mlp.gelu) is nn.GELU


def test_each_tower_has_its_activation_and_epsilon_and_says_so(mini_clip, logged):
    for overrides, image, text, said in (
        ({}, ('QuickGELU', 1e-5), ('QuickGELU', 1e-5), []),
        (dict(activation='gelu', norm_eps=1e-6), ('GELU', 1e-6), ('GELU', 1e-6), ['gelu', 'gelu', '1e-06', '1e-06']),
        (dict(activation=dict(image='gelu'), norm_eps=dict(text=1)), ('GELU', 1e-5), ('QuickGELU', 1), ['gelu', '1']),
    ):
        logged.clear()
        source = ClipSource(**mini_clip, **overrides)
        for tower, expected in ((source.visual, image), (source.text_tower(), text)):
            epsilons = {part.eps for part in tower.modules() if isinstance(part, nn.LayerNorm)}
            activations = {type(block.mlp.gelu).__name__ for block in tower.transformer.resblocks}
            assert (activations, epsilons) == ({expected[0]}, {expected[1]})
        assert 'runs it with QuickGELU' in logged[-1]
        assert re.findall('tower runs with (.*) on purpose', '\n'.join(logged)) == said


def test_a_folder_in_the_home_holds_one_weights_file(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    (tmp_path / 'clip').mkdir()
    (tmp_path / 'clip' / 'open_clip_config.json').write_text(json.dumps(dict(model_cfg=description())))
    for names, holds in ((), '0: none'), (('mine.pt', 'other.pt'), '2: mine.pt, other.pt'):
        for name in names:
            (tmp_path / 'clip' / name).touch()
        with pytest.raises(MissingFileError, match=f'must hold one weights file .* but holds {holds}'):
            ClipSource(model_name='local-dir:~/clip').image_tower()
    (tmp_path / 'clip' / 'open_clip_model.safetensors').touch()  # a usual name wins
    assert ClipSource(model_name='local-dir:~/clip').weights.name == 'open_clip_model.safetensors'


@pytest.mark.parametrize(
    'problem, at_import, kind, words',
    [
        (ImportError(name='transformers'), True, ConfigError, 'which is not installed: pip install .*transformers'),
        (ImportError('hub>=9 is required'), True, ConfigError, r'which cannot be imported \(hub>=9 is'),
        (OSError("We couldn't connect.\nHelp"), False, MissingFileError, "couldn't connect.*HF_ENDPOINT"),
        (ImportError("No module named 'xy'", name='xy'), False, ConfigError, 'pip install xy.$'),
        (ValueError('`tiktoken` is required'), False, ConfigError, 'pip install sentencepiece tiktoken prot'),
    ],
    ids=str,
)
def test_what_hugging_faces_part_lacks_is_one_sentence_and_it_runs_no_code(
    described, monkeypatch, problem, at_import, kind, words
):
    asked, transformers = [], ModuleType('transformers')
    transformers.__getattr__ = lambda name: fail() if at_import else None

    def fail(*args, **kwargs):
        asked.append(kwargs)
        raise problem

    monkeypatch.setitem(sys.modules, 'transformers', transformers)
    monkeypatch.setattr('open_clip.tokenizer.HFTokenizer', fail)
    monkeypatch.setattr('open_clip.model.HFTextEncoder', fail)
    with pytest.raises(kind, match=f"^The text tower 'some/model' of .*{words}"):
        ClipSource(model_name=described(dict(hf_model_name='some/model'))).empty_visual()
    text = dict(hf_tokenizer_name='some/words', tokenizer_kwargs=dict(trust_remote_code=True))
    encoder = ClipSource(model_name=described(text)).text_encoder()
    asked.clear()
    with pytest.raises(kind, match=f"^The tokenizer 'some/words' of .*{words}"):
        encoder.tokenizer()
    assert (asked[0]['context_length'], asked[0]['trust_remote_code'], encoder.reads_english) == (77, False, False)


def test_every_kind_of_open_clips_descriptions_is_built_or_refused_in_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, 'transformers', None)
    monkeypatch.setattr(open_clip.hf_model, 'transformers', None)
    describe, kinds = open_clip.get_model_config, {}

    def of_one_layer(name):
        model = describe(name)
        for tower in (model['vision_cfg'], model['text_cfg']):
            tower.update(dict(layers=1) if isinstance(tower.get('layers'), int) else {})
        return model

    for name in open_clip.list_models():  # those that differ in numbers alone are one kind
        kinds[re.sub(r'\d+', '', json.dumps(describe(name)))] = name
    monkeypatch.setattr(open_clip, 'get_model_config', of_one_layer)
    for name in kinds.values():
        said = ''
        try:
            source = ClipSource(model_name=name, pretrained=None)
            source.empty_visual()
            source.text_encoder().tokenizer()
        except ConfigError as error:
            said = str(error)
        assert re.match(f'$|{name} cannot be used: its image tower |The t.* of {name} needs the package', said), said


@pytest.mark.parametrize('quick', [True, False])
def test_a_fused_block_equals_open_clips_in_value_and_gradient_or_is_refused(quick):
    torch.manual_seed(0)
    vision = dict(image_size=64, layers=1, width=128, head_width=32, patch_size=16, ls_init_value=0.1)
    model = open_clip.CLIP(64, vision, dict(width=64, heads=1, layers=1), quick_gelu=quick)
    theirs, x, gradients = model.visual.transformer.resblocks[0].eval(), torch.randn(3, 17, 128), []
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    ours, other = fuse_block(copy.deepcopy(theirs)), copy.deepcopy(theirs)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    other.attn.__class__ = type('OfAnotherVersion', (nn.Module,), {})  # the same weights, called in another way
    for block in (ours, theirs):
        value = x.clone().requires_grad_()
        block(value).square().sum().backward()
        gradients.append([value.grad, block.mlp.c_fc.weight.grad, block.attn.in_proj_weight.grad])
    for mine, expected in zip(*gradients, strict=True):
        assert (mine - expected).abs().max() < 1e-5 * expected.abs().max()
    with torch.no_grad():
        for block in (ours, fuse_block(other)):
            torch.testing.assert_close(block(x), theirs(x), atol=1e-4, rtol=1e-5)
    theirs.attn.q_norm = nn.LayerNorm(8)
    with pytest.raises(ConfigError, match='which is not known here. Install open_clip_torch'):
        fuse_block(theirs)
    wide = torch.linspace(-6, 6, 25, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(FusedQuickGELU(), (wide,))


@pytest.mark.parametrize('precision', LOW)
@torch.no_grad()
def test_products_have_the_precision_norms_and_embeddings_stay_in_float32(mini_clip, source, precision):
    lower, image = ClipSource(**mini_clip, precision=precision), torch.randn(1, 3, 96, 128)
    for tower in (lower.visual, lower.text_tower()):
        float32 = {name for name, value in tower.named_parameters() if value.dtype == torch.float32}
        assert float32 == {name for name, _ in tower.named_parameters() if re.search('ln_|embedding', name)}
        assert {value.dtype for value in tower.parameters()} == {torch.float32, LOW[precision]}
        norms = {type(part) for part in tower.modules() if isinstance(part, nn.LayerNorm)}
        assert norms == {open_clip.transformer.LayerNormFp32}
    exact, rough = build(source), build(lower)
    expected, scores = exact._forward(image), rough._forward(image)
    assert scores.dtype == torch.float32 and (scores - expected).abs().max() < 0.05
    assert torch.corrcoef(torch.stack([scores.flatten(), expected.flatten()]))[0, 1] > 0.99
    with torch.autocast('cpu', torch.bfloat16 if precision == 'fp16' else torch.float16):
        cast = [model._forward(image) for model in (exact, rough)]
        assert rough.backbone.record(image)[2].dtype == LOW[precision]
    assert not torch.equal(cast[0], expected) and (cast[0] - expected).abs().max() < 0.05
    assert torch.equal(cast[1], scores)  # it acts on float32 weights only


def test_gradients_change_no_bit_also_after_inference_mode(source):
    model, image = (
        build(source, dict(type='CorrelativeSelfAttention', projections=['learned', 'q'])),
        torch.randn(3, 64, 96),
    )
    with torch.inference_mode():
        expected, scores = model.predict([image])[0].pred_sem_seg.data.clone(), model._forward(image[None]).clone()
    assert torch.equal(model.predict([image])[0].pred_sem_seg.data, expected)
    assert torch.equal(model._forward(image[None].requires_grad_()).detach(), scores)


def test_positions_of_grids_that_are_not_square_and_of_the_native_one():
    table = torch.randn(1 + 8 * 6, 3)
    turned = torch.cat([table[:1], table[1:].view(8, 6, 3).transpose(0, 1).flatten(0, 1)])
    for name, rule in POSITION_RULES.items():
        assert torch.equal(rule(table, (8, 6), (8, 6)), table)
        fitted, other = rule(table, (8, 6), (10, 9)), rule(turned, (6, 8), (9, 10))[1:].view(9, 10, 3)
        torch.testing.assert_close(fitted[1:], other.transpose(0, 1).flatten(0, 1))
        how = dict(mode='bilinear' if name == 'bilinear' else 'bicubic', antialias=name == 'size_antialias')
        how |= dict(scale_factor=(10.1 / 8, 9.1 / 6)) if name == 'scale' else dict(size=(10, 9))
        by_hand = nn.functional.interpolate(table[1:].view(1, 8, 6, 3).permute(0, 3, 1, 2), **how)
        torch.testing.assert_close(fitted, torch.cat([table[:1], by_hand[0].flatten(1).T]))
    # SCLIP's rule asks for the number of patches only, whatever their grid.
    assert POSITION_RULES['scale'](table, (8, 6), (4, 12)) is table
