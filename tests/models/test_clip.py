"""Loading CLIP: what is refused, what is fetched, what is built, and positions against a second implementation."""

import json
import re
import sys
from types import ModuleType, SimpleNamespace

import open_clip
import pytest
import torch
from huggingface_hub.errors import EntryNotFoundError
from mmseg.registry import MODELS

from mmseg_sclip.errors import BadFileError, ConfigError, MissingFileError, UserError
from mmseg_sclip.models.clip import POSITION_RULES, ClipConfig, ClipSource, weights_file
from mmseg_sclip.models.towers import build_source


@pytest.fixture
def described(tmp_path, mini_json):
    """`described(part=dict(key=value), ...)` is the path of the mini CLIP's description with other values in it."""

    def describe(wrap=lambda content: content, **changes):
        content = json.loads(mini_json.read_text())
        for part, change in changes.items():
            content[part] = {**content[part], **change} if isinstance(change, dict) else change
        (tmp_path / 'model.json').write_text(json.dumps(wrap(content)))
        return str(tmp_path / 'model.json')

    return describe


@pytest.fixture
def logged(monkeypatch):
    lines = []
    for module in ('source', 'architecture'):
        monkeypatch.setattr(f'mmseg_sclip.models.clip.{module}.print_log', lambda text, **_: lines.append(text))
    return lines


def test_both_towers_equal_open_clips_own_and_all_of_them_has_memory(mini_clip, mini_json, mini_weights):
    reference = open_clip.CLIP(**json.loads(mini_json.read_text()))
    open_clip.load_checkpoint(reference, str(mini_weights))
    source, images, tokens = ClipSource(**mini_clip), torch.randn(1, 3, 224, 224), open_clip.tokenize(['a photo.'])
    text = source.text_tower()
    with torch.no_grad():
        torch.testing.assert_close(source.visual(images), reference.encode_image(images))
        torch.testing.assert_close(text.encode_text(tokens), reference.encode_text(tokens))
    for module in (source.visual, text):
        tensors = [*module.parameters(), *module.buffers()]
        assert tensors and not [tensor for tensor in tensors if tensor.is_meta or tensor.requires_grad]
        module.to('cpu')  # as a tensor on the meta device would not allow


def test_lower_precision_leaves_norms_and_embeddings(mini_clip):
    tower = ClipSource(**mini_clip, precision='bf16').text_tower()
    low = {name for name, value in tower.named_parameters() if value.dtype == torch.bfloat16}
    assert {'text_projection', 'transformer.resblocks.0.mlp.c_fc.weight'} < low
    assert not [name for name in low if 'ln_' in name or 'embedding' in name]
    norms = {type(part) for part in tower.modules() if isinstance(part, torch.nn.LayerNorm)}
    assert norms == {open_clip.transformer.LayerNormFp32}


OPENAI = (
    'were trained with QuickGELU, but {0} is built with GELU; .*Use model_name=.{1}. .as a flag: --model-name {1}.,'
)
QUICK = {name: f'{name.replace("/", "-")}-quickgelu' for name in ('ViT-B-16', 'ViT-B/16', 'ViT-L/14')}
QUICK['ViT-L/14@336px'] = 'ViT-L-14-336-quickgelu'
NONE_OF_OURS = ['RN50-quickgelu', 'ViT-B-16-SigLIP', 'convnext_base', 'coca_ViT-B-32', 'EVA02-B-16', 'PE-Core-B-16']


@pytest.mark.parametrize(
    'clip, words',
    [
        (dict(model_name='builtin:x'), "only built-in model is 'builtin:demo'"),
        (dict(model_name='ViT-B-16-quickgelu', pretrianed='openai'), "Did you mean 'pretrained'"),
        (dict(model_name='ViT-B16'), "Did you mean 'ViT-B-16'"),
        (dict(pretrained='openai'), 'model.clip.model_name is None'),
        (dict(model_name='builtin:demo', pretrained='openai'), 'pretrained must be None'),
        (dict(model_name='local-dir:/x', pretrained='openai'), 'pretrained must be None'),
        (dict(model_name='local-dir:/x'), 'There is no folder /x'),
        (dict(model_name='/x/model.json'), 'There is no model description /x/model.json'),
        (dict(model_name='ViT-B-32-quickgelu', pretrained='laion2b_s34b_b79k'), 'neither a file nor a tag.*openai'),
        (dict(model_name='ViT-B-16', precision='bfloat16'), "Did you mean 'bf16'"),
        (dict(model_name='ViT-B-16', keep_text='no'), 'keep_text'),
        (dict(model_name='ViT-B-16', activation='relu'), "'gelu', 'quick_gelu'"),
        (dict(model_name='ViT-B-16', norm_eps=0), 'norm_eps'),
        (dict(model_name='ViT-B-16', norm_eps=float('nan')), 'norm_eps'),
        (dict(model_name='ViT-B-16', norm_eps=dict(text=float('inf'))), 'norm_eps'),
        (dict(model_name='ViT-B-16', activation=dict(vision='gelu')), "Unknown key 'vision'"),
        ('ViT-B-16', 'must be a dict'),
        (None, 'The head has no CLIP. Give it clip=dict'),
        (
            dict(type='ClipSauce', model_name='ViT-B-16'),
            "type 'ClipSauce', which is not registered. Did you mean 'Clip",
        ),
        (dict(type='LastBlock'), "has the type 'LastBlock', which is not a kind of TowerSource"),
        *((dict(model_name=n, pretrained='openai'), OPENAI.format(n, quick)) for n, quick in QUICK.items()),
        *((dict(model_name=name), f'{name} cannot be used') for name in NONE_OF_OURS),
    ],
    ids=str,
)
def test_wrong_clips_are_refused(clip, words):
    with pytest.raises(UserError, match=words):
        build_source(clip, 'The head').image_tower()


@pytest.mark.parametrize(
    'part, change, words',
    [
        ('vision_cfg', dict(timm_model_name='vit_x'), 'model.json cannot be used: .*timm trunk .vit_x.'),
        ('vision_cfg', dict(layers=[3, 4, 6, 3]), 'cannot be used: .*ResNet'),
        ('vision_cfg', dict(attentional_pool=True), 'cannot be used: .*pools by attention'),
        ('vision_cfg', dict(pool_type='avg'), "cannot be used: .*pool_type='avg'"),
        ('vision_cfg', dict(final_ln_after_pool=True), 'cannot be used: .*final_ln_after_pool'),
        ('vision_cfg', dict(block_type='custom'), 'cannot be used: .*custom attention'),
        ('vision_cfg', dict(qk_norm=True), 'cannot be used: .*custom attention'),
        ('vision_cfg', dict(scale_heads=True), 'cannot be used: .*custom attention'),
        ('vision_cfg', dict(layers=4), 'do not fit the arch.*visual.transformer.resblocks.3.* is missing in the file'),
        ('vision_cfg', dict(layers=2), 'do not fit the arch.*visual.transformer.resblocks.2.* is unknown to the model'),
        ('vision_cfg', dict(width=64), 'do not fit .*visual.class_embedding is 128 in the file and 64 in the model'),
        ('vision_cfg', dict(image_size=448), 'visual.positional_embedding is 197x128 in the file and 785x128 in the'),
        ('text_cfg', dict(context_length=64), 'positional_embedding is 77x64 in the file and 64x64 in the model'),
    ],
    ids=str,
)
def test_descriptions_that_cannot_work_or_do_not_fit_the_weights(described, mini_weights, part, change, words):
    with pytest.raises((ConfigError, BadFileError), match=words):
        ClipSource(model_name=described(**{part: change}), pretrained=str(mini_weights)).image_tower()


@pytest.mark.parametrize('name, patch, side', [('ViT-B-32-quickgelu', 32, 224), ('ViT-L/14@336px', 14, 336)])
def test_named_architectures_know_their_geometry(name, patch, side):
    source = ClipSource(model_name=name)
    visual = source.empty_visual()
    assert type(visual) is open_clip.transformer.VisionTransformer and visual.proj.is_meta
    assert (visual.patch_size, visual.image_size) == ((patch, patch), (side, side))
    assert (source.mean, source.std) == ((122.771, 116.746, 104.094), (68.501, 66.632, 70.323))


def test_mean_and_std_come_with_the_model_and_a_preprocessor_may_have_its_own(described):
    preprocess = dict(mean=[0.5, 0.25, 0], std=[1, 0.5, 0.1])
    clip = dict(model_name=described(lambda content: dict(model_cfg=content, preprocess_cfg=preprocess)))
    source = ClipSource(**clip)
    assert (source.mean, source.std) == ((127.5, 63.75, 0), (255, 127.5, 25.5))
    model = MODELS.build(
        dict(
            type='SCLIPSegmentor',
            clip=clip,
            backbone=dict(type='CLIPVisionTransformer'),
            decode_head=dict(type='TextSimilarityHead', vocabulary=['cat']),
            data_preprocessor=dict(type='CLIPDataPreProcessor', std=(1, 1, 1)),
        )
    )
    assert model.data_preprocessor.mean.flatten().tolist() == [127.5, 63.75, 0]
    assert model.data_preprocessor.std.flatten().tolist() == [1, 1, 1]


def test_random_weights_are_loud_and_stay_and_the_demo_says_nothing(mini_json, logged):
    assert ClipSource(model_name='builtin:demo').visual.image_size == (64, 64) and not logged
    source = ClipSource(model_name=str(mini_json), pretrained=None)
    first = source.visual
    assert 'RANDOM WEIGHTS' in logged[0]
    source.release()
    del source.__dict__['visual']
    assert source.visual is not first and torch.equal(source.visual.proj, first.proj)


def test_equal_entries_share_their_towers_and_others_have_the_weights_they_name(mini_clip, mini_state, tmp_path):
    torch.save({**mini_state, 'visual.proj': 2 * mini_state['visual.proj']}, tmp_path / 'other.pt')
    other = dict(mini_clip, pretrained=str(tmp_path / 'other.pt'))
    parts = dict(
        type='SCLIPSegmentor',
        backbone=dict(type='CLIPVisionTransformer'),
        decode_head=dict(type='TextSimilarityHead', vocabulary=['cat']),
    )
    bilinear = dict(type='CLIPVisionTransformer', positions='bilinear')
    methods = dict(a=dict(parts, clip=mini_clip), b=dict(parts, clip=other), c=dict(parts, clip=dict(mini_clip)))
    methods['d'] = dict(methods['a'], backbone=bilinear)
    a, b, c, d = MODELS.build(dict(type='MethodBundle', methods=methods)).methods
    assert a.backbone.tower is c.backbone.tower is not d.backbone.tower
    assert a.backbone.tower.visual is d.backbone.tower.visual
    assert a.decode_head.text_encoder is c.decode_head.text_encoder is not b.decode_head.text_encoder
    assert torch.equal(a.backbone.tower.visual.proj, mini_state['visual.proj'])
    assert torch.equal(b.backbone.tower.visual.proj, 2 * mini_state['visual.proj'])


@pytest.fixture
def hub(monkeypatch):
    """A hub that has no file but those that a test puts into the returned dict; under `asked` what it was asked for."""
    files = dict(asked=[])

    def download(repository, name, cache_dir, local_files_only):
        files['asked'].append((repository, name, cache_dir, local_files_only))
        if name not in files:
            raise EntryNotFoundError('it is not there')
        return files[name]

    monkeypatch.setattr(weights_file, 'get_session', lambda: SimpleNamespace(head=lambda *args, timeout: None))
    monkeypatch.setattr(weights_file, 'hf_hub_download', download)
    return files


def test_a_model_is_described_without_its_weights(hub, mini_json, mini_weights, mini_state):
    ClipSource(model_name='ViT-B-16', pretrained='openai').empty_visual()  # nor is their activation asked for
    assert not hub['asked']
    hub['open_clip_config.json'] = mini_json
    source = ClipSource(model_name='hf-hub:a/b', cache_dir='/c')
    assert source.empty_image_tower().patch_size == (16, 16)
    assert hub['asked'] == [('a/b', 'open_clip_config.json', '/c', False)]
    with pytest.raises(MissingFileError, match="The weights of 'hf-hub:a/b' could not be downloaded .it is not there"):
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
    words = "The weights 'openai' of ViT-B-16-quickgelu could .*9 cannot be reached.*--pretrained.*HF_ENDPOINT"
    with pytest.raises(MissingFileError, match=words):
        ClipSource(**clip).image_tower()
    monkeypatch.setattr(weights_file, 'file_hash', lambda path: '5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85')
    assert weights_file.find_weights(ClipConfig.parse(clip)) == tmp_path / 'ViT-B-16.pt'
    assert (tmp_path / 'ViT-B-16.pt').read_text() == 'mine'


@pytest.mark.parametrize('error, reachable', [('ReadTimeout', True), ('ConnectTimeout', False)])
def test_a_slow_hub_is_waited_for_and_a_missing_one_is_not(monkeypatch, hub, error, reachable):
    def head(*args, timeout):
        assert 0 < timeout < 10
        raise type(error, (Exception,), {})('why')

    monkeypatch.setattr(weights_file, 'get_session', lambda: SimpleNamespace(head=head))
    with pytest.raises(MissingFileError, match='it is not there' if reachable else 'cannot be reached: why'):
        ClipSource(model_name='ViT-B-16', pretrained='laion2b_s34b_b88k', cache_dir='/c').image_tower()
    files = ('open_clip_model.safetensors', 'open_clip_pytorch_model.bin')
    assert hub['asked'] == [('laion/CLIP-ViT-B-16-laion2B-s34B-b88K', name, '/c', not reachable) for name in files]


@pytest.mark.parametrize('key', ['input_resolution', 'context_length', 'vocab_size'])
def test_openai_dicts_need_quick_gelu(tmp_path, described, mini_state, key):
    torch.save({**mini_state, key: torch.tensor(224)}, tmp_path / 'openai.pt')
    clip = dict(model_name=described(quick_gelu=False), pretrained=str(tmp_path / 'openai.pt'))
    with pytest.raises(ConfigError, match='trained with QuickGELU.*"quick_gelu": true'):
        ClipSource(**clip).image_tower()
    if key == 'vocab_size':  # overrides are on purpose
        for activation, kind in (('gelu', torch.nn.GELU), ('quick_gelu', open_clip.transformer.QuickGELU)):
            assert type(ClipSource(**clip, activation=activation).visual.transformer.resblocks[0].mlp.gelu) is kind


@pytest.mark.parametrize(
    'overrides, image, text, said',
    [
        ({}, ('QuickGELU', 1e-5), ('QuickGELU', 1e-5), ''),
        (
            dict(activation='gelu', norm_eps=1e-6),
            ('GELU', 1e-6),
            ('GELU', 1e-6),
            'image gelu text gelu image 1e-06 text',
        ),
        (
            dict(activation=dict(image='gelu'), norm_eps=dict(text=1e-3)),
            ('GELU', 1e-5),
            ('QuickGELU', 1e-3),
            'image gelu t',
        ),
    ],
)
def test_each_tower_has_its_activation_and_epsilon_and_says_so(mini_clip, overrides, image, text, said, logged):
    source = ClipSource(**mini_clip, **overrides)
    for tower, expected in ((source.visual, image), (source.text_tower(), text)):
        epsilons = {part.eps for part in tower.modules() if isinstance(part, torch.nn.LayerNorm)}
        activations = {type(block.mlp.gelu).__name__ for block in tower.transformer.resblocks}
        assert (activations, epsilons) == ({expected[0]}, {expected[1]})
    assert 'runs it with QuickGELU' in logged[-1]
    found = re.findall('the (image|text) tower runs with (.*) on purpose', '\n'.join(logged))
    assert ' '.join(map(' '.join, found)).startswith(said) and bool(found) == bool(said)


def test_a_folder_in_the_home_brings_weights_and_tokenizer(tmp_path, monkeypatch, mini_json, mini_state):
    monkeypatch.setenv('HOME', str(tmp_path))
    (tmp_path / 'clip').mkdir()
    content = dict(model_cfg=json.loads(mini_json.read_text()), preprocess_cfg={})
    (tmp_path / 'clip' / 'open_clip_config.json').write_text(json.dumps(content))
    source = ClipSource(model_name='local-dir:~/clip')
    assert source.text_encoder().tokenizer()(['a cat']).shape == (1, 77)
    with pytest.raises(MissingFileError, match='must hold one weights file .* but holds 0: none'):
        source.image_tower()
    torch.save(mini_state, tmp_path / 'clip' / 'mine.pt')
    assert torch.equal(source.visual.proj, mini_state['visual.proj'])
    (tmp_path / 'clip' / 'other.pt').touch()
    with pytest.raises(MissingFileError, match='holds 2: mine.pt, other.pt'):
        ClipSource(model_name='local-dir:~/clip').image_tower()


def test_another_tokenizer_is_not_replaced_silently_and_runs_no_code_of_its_own(described, monkeypatch):
    asked = {}
    monkeypatch.setattr('open_clip.tokenizer.HFTokenizer', lambda name, **options: asked.update(options, name=name))
    text = dict(hf_tokenizer_name='some/tokenizer', tokenizer_kwargs=dict(trust_remote_code=True))
    encoder = ClipSource(model_name=described(text_cfg=text)).text_encoder()
    encoder.tokenizer()
    assert (asked['name'], asked['context_length'], asked['trust_remote_code']) == ('some/tokenizer', 77, False)
    assert not encoder.reads_english


@pytest.mark.parametrize('name', ['hf_model_name', 'hf_tokenizer_name'])
@pytest.mark.parametrize(
    'module, problem, kind, words',
    [
        (None, None, ConfigError, 'which is not installed: pip install .*transformers'),
        ('', ImportError('huggingface-hub>=9 is required'), ConfigError, r'cannot be imported \(huggingface-hub>=9 is'),
        ('AutoTokenizer', OSError("We couldn't connect.\nHelp"), MissingFileError, "couldn't connect.*HF_ENDPOINT"),
        ('AutoTokenizer', ImportError("No module named 'xy'", name='xy'), ConfigError, 'pip install xy.$'),
        ('AutoTokenizer', ValueError('`tiktoken` is required'), ConfigError, 'pip install sentencepiece tiktoken prot'),
    ],
    ids=str,
)
def test_what_hugging_faces_part_lacks_is_one_sentence(described, monkeypatch, name, module, problem, kind, words):
    def fail(*args, **kwargs):
        from transformers import AutoTokenizer  # noqa: F401

        raise problem

    class Transformers(ModuleType):
        def __getattr__(self, attribute):
            if attribute == module:
                return None
            raise problem

    monkeypatch.setitem(sys.modules, 'transformers', None if module is None else Transformers('transformers'))
    monkeypatch.setattr('open_clip.tokenizer.HFTokenizer', fail)
    monkeypatch.setattr('open_clip.model.HFTextEncoder', fail)
    source = ClipSource(model_name=described(text_cfg={name: 'some/repository'}))
    with pytest.raises(kind, match=f"^The t.* 'some/repository' of .*{words}"):
        source.text_encoder().tokenizer() if name == 'hf_tokenizer_name' else source.empty_visual()


@pytest.mark.slow
def test_every_architecture_of_open_clip_is_built_or_refused_in_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, 'transformers', None)
    monkeypatch.setattr(open_clip.hf_model, 'transformers', None)
    describe = open_clip.get_model_config

    def one_block(name):
        model = describe(name)
        for tower in (model['vision_cfg'], model['text_cfg']):
            tower.update({'layers': 1} if isinstance(tower.get('layers'), int) else {})
        return model

    monkeypatch.setattr(open_clip, 'get_model_config', one_block)
    for name in open_clip.list_models():
        said = ''
        try:
            source = ClipSource(model_name=name, pretrained=None)
            source.empty_visual()
            source.text_encoder().tokenizer()
        except ConfigError as error:
            said = str(error)
        assert re.match(f'$|{name} cannot be used: its image tower |The t.* of {name} needs the package', said), said


def cubic(t, a=-0.75):
    """Keys' kernel, as torch uses it."""
    t = abs(t)
    if t <= 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a if t < 2 else 0.0


@pytest.mark.parametrize('rule', ['scale', 'size'])
def test_positions_written_out_pixel_by_pixel(rule):
    native, grid = 4, (5, 7)
    table = torch.randn(1 + native * native, 2)
    ours = POSITION_RULES[rule](table, (native, native), grid)
    source = table[1:].view(native, native, 2)
    expected = torch.zeros(*grid, 2)
    step = [native / (side + 0.1) if rule == 'scale' else native / side for side in grid]
    for y in range(grid[0]):
        for x in range(grid[1]):
            at = [(i + 0.5) * s - 0.5 for i, s in zip((y, x), step, strict=True)]
            low = [int(torch.tensor(c).floor()) for c in at]
            for dy in range(-1, 3):
                for dx in range(-1, 3):
                    row, col = (min(max(base + d, 0), native - 1) for base, d in zip(low, (dy, dx), strict=True))
                    weight = cubic(at[0] - low[0] - dy) * cubic(at[1] - low[1] - dx)
                    expected[y, x] += weight * source[row, col]
    torch.testing.assert_close(ours[1:].view(*grid, 2), expected, atol=1e-5, rtol=0)
    assert torch.equal(ours[0], table[0])


def test_the_rules_differ_and_keep_the_native_grid():
    table = torch.randn(1 + 49, 3)
    for rule in POSITION_RULES.values():
        assert torch.equal(rule(table, (7, 7), (7, 7)), table)
    small = [rule(table, (7, 7), (4, 5)) for rule in POSITION_RULES.values()]
    assert all((a - b).abs().max() > 1e-3 for i, a in enumerate(small) for b in small[:i])
    # SCLIP's rule asks for the number of patches only, whatever their grid.
    wide = torch.randn(1 + 36, 3)
    assert POSITION_RULES['scale'](wide, (6, 6), (4, 9)) is wide
