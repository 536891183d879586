"""Loading CLIP: what is refused, what is checked, and positions against a second implementation."""

import json

import open_clip
import pytest
import torch
from mmseg.registry import MODELS

from mmseg_sclip.models.clip import POSITION_RULES, ClipConfig, ClipSource, architecture
from mmseg_sclip.models.clip import source as source_module


@pytest.fixture
def description(mini_json):
    return json.loads(mini_json.read_text())


@pytest.fixture
def logged(monkeypatch):
    lines = []
    monkeypatch.setattr(source_module, 'print_log', lambda message, **_: lines.append(message))
    return lines


def saved(folder, content, name='model.json'):
    (folder / name).write_text(json.dumps(content))
    return str(folder / name)


def test_images_and_text_equal_open_clips_own(mini_clip, mini_json, mini_weights):
    reference = open_clip.CLIP(**json.loads(mini_json.read_text()))
    open_clip.load_checkpoint(reference, str(mini_weights))
    source = ClipSource(mini_clip)
    images, tokens = torch.randn(1, 3, 224, 224), source.tokenizer()(['a photo of a cat.'])
    with torch.no_grad():
        torch.testing.assert_close(source.image_tower()(images), reference.encode_image(images))
        torch.testing.assert_close(source.text_tower().encode_text(tokens), reference.encode_text(tokens))


def test_a_tower_without_memory_is_nowhere(mini_clip):
    source = ClipSource(mini_clip)
    for module in (source.image_tower(), source.text_tower()):
        tensors = [*module.parameters(), *module.buffers()]
        assert tensors
        assert not [tensor for tensor in tensors if tensor.is_meta or tensor.requires_grad]
        module.to('cpu')


def test_custom_text_towers_load_from_both_namings(tmp_path, description, mini_state):
    path = saved(tmp_path, {**description, 'custom_text': True})
    torch.save(mini_state, tmp_path / 'plain.pt')
    renamed = open_clip.model.convert_to_custom_text_state_dict(dict(mini_state))
    torch.save(renamed, tmp_path / 'custom.pt')
    tokens = open_clip.tokenize(['a cat'])
    outputs = [
        ClipSource(dict(model_name=path, pretrained=str(tmp_path / name))).text_tower().encode_text(tokens)
        for name in ('plain.pt', 'custom.pt')
    ]
    assert torch.equal(*outputs)


@pytest.mark.parametrize(
    'vision, words',
    [
        (dict(timm_model_name='vit_x'), 'timm trunk .vit_x.'),
        (dict(layers=[3, 4, 6, 3]), 'ResNet'),
        (dict(attentional_pool=True), 'pools by attention'),
        (dict(pool_type='avg'), "pool_type='avg'"),
        (dict(final_ln_after_pool=True), 'final_ln_after_pool'),
        (dict(block_type='custom'), 'custom attention'),
        (dict(qk_norm=True), 'custom attention'),
        (dict(scale_heads=True), 'custom attention'),
    ],
    ids=str,
)
def test_what_cannot_work_is_refused_by_name(tmp_path, description, vision, words):
    description['vision_cfg'].update(vision)
    with pytest.raises(ValueError, match=f'model.json cannot be used: .*{words}'):
        ClipSource(dict(model_name=saved(tmp_path, description), pretrained=None))


@pytest.mark.parametrize(
    'name', ['RN50-quickgelu', 'ViT-B-16-SigLIP', 'convnext_base', 'coca_ViT-B-32', 'EVA02-B-16', 'PE-Core-B-16']
)
def test_named_architectures_that_cannot_work(name):
    with pytest.raises(ValueError, match=f'{name} cannot be used'):
        ClipSource(dict(model_name=name))


@pytest.mark.parametrize(
    'name', ['ViT-B-32-quickgelu', 'ViT-B-16-quickgelu', 'ViT-L-14-quickgelu', 'ViT-L-14-336-quickgelu', 'ViT-H-14']
)
def test_named_architectures_that_work_know_their_geometry(name):
    source = ClipSource(dict(model_name=name))
    config = source.architecture.model['vision_cfg']
    visual = source._layout('image').visual  # without memory
    assert type(visual) is open_clip.transformer.VisionTransformer
    assert visual.patch_size[0] == config['patch_size']
    assert source.mean == (122.771, 116.746, 104.094)
    assert source.std == (68.501, 66.632, 70.323)


def test_mean_and_std_come_with_the_model(tmp_path, description):
    content = dict(model_cfg=description, preprocess_cfg=dict(mean=[0.5, 0.25, 0], std=[1, 0.5, 0.1]))
    source = ClipSource(dict(model_name=saved(tmp_path, content)))
    assert source.mean == (127.5, 63.75, 0)
    assert source.std == pytest.approx((255, 127.5, 25.5))
    model = MODELS.build(
        dict(
            type='SCLIPSegmentor',
            clip=dict(model_name=saved(tmp_path, content), pretrained=None),
            backbone=dict(type='CLIPVisionTransformer'),
            decode_head=dict(type='TextSimilarityHead', vocabulary=['cat']),
            data_preprocessor=dict(type='CLIPDataPreProcessor', std=(1, 1, 1)),
        )
    )
    assert model.data_preprocessor.mean.flatten().tolist() == [127.5, 63.75, 0]
    assert model.data_preprocessor.std.flatten().tolist() == [1, 1, 1]


def test_random_weights_are_loud_and_shared_by_both_towers(mini_json, logged):
    source = ClipSource(dict(model_name=str(mini_json), pretrained=None))
    first = source.image_tower().proj
    assert 'RANDOM WEIGHTS' in logged[0]
    assert torch.equal(first, source.image_tower().proj)
    source.release()
    assert torch.equal(first, source.image_tower().proj)


def test_the_demo_says_nothing_about_random_weights(logged):
    tower = ClipSource(dict(model_name='builtin:demo', pretrained=None)).image_tower()
    assert tower.image_size == (64, 64)
    assert not [line for line in logged if 'RANDOM' in line]


@pytest.mark.parametrize(
    'clip, words',
    [
        (dict(model_name='builtin:x'), "only built-in model is 'builtin:demo'"),
        (dict(model_name='ViT-B-16-quickgelu', pretrianed='openai'), "Did you mean 'pretrained'"),
        (dict(model_name='ViT-B16'), "Did you mean 'ViT-B-16'"),
        (dict(pretrained='openai'), 'model.clip.model_name is None'),
        (dict(model_name='builtin:demo', pretrained='openai'), 'pretrained must be None'),
        (dict(model_name='local-dir:/x', pretrained='openai'), 'pretrained must be None'),
        (dict(model_name='ViT-B-16', pretrained='openai'), "model_name='ViT-B-16-quickgelu'"),
        (dict(model_name='ViT-B-32-quickgelu', pretrained='laion2b_s34b_b79k'), 'openai'),
        (dict(model_name='ViT-B-16', precision='bfloat16'), "Did you mean 'bf16'"),
        (dict(model_name='ViT-B-16', activation='relu'), "'gelu', 'quick_gelu'"),
        (dict(model_name='ViT-B-16', norm_eps=0), 'norm_eps'),
        (dict(model_name='ViT-B-16', activation=dict(vision='gelu')), "Unknown key 'vision'"),
        ('ViT-B-16', 'must be a dict'),
    ],
    ids=str,
)
def test_wrong_clips_are_refused(clip, words):
    with pytest.raises((ValueError, FileNotFoundError)) as caught:  # noqa: PT011  the words are checked below
        ClipSource(clip)
    assert words in str(caught.value)


def test_a_download_that_fails_says_how_to_go_on_offline(monkeypatch):
    def fail(*args, **kwargs):
        raise OSError('no route to host')

    monkeypatch.setattr(architecture.open_clip, 'download_pretrained', fail)
    with pytest.raises(FileNotFoundError, match='no route to host.*--pretrained FILE.*HF_ENDPOINT'):
        ClipSource(dict(model_name='ViT-B-16-quickgelu', pretrained='openai'))


def test_a_tag_is_taken_from_the_given_cache(monkeypatch, tmp_path):
    asked = {}

    def download(config, cache_dir=None):
        asked.update(config, cache_dir=cache_dir)
        return str(tmp_path / 'weights.pt')

    monkeypatch.setattr(architecture.open_clip, 'download_pretrained', download)
    found = architecture.find_architecture(
        ClipConfig.parse(dict(model_name='ViT-B-32', pretrained='laion2b_s34b_b79k', cache_dir='/c'))
    )
    assert (found.weights, found.quick_gelu, asked['cache_dir']) == (tmp_path / 'weights.pt', False, '/c')


@pytest.mark.parametrize('key', ['input_resolution', 'context_length', 'vocab_size'])
def test_openai_dicts_need_quick_gelu_unless_overridden(tmp_path, description, mini_state, key):
    torch.save({**mini_state, key: torch.tensor(224)}, tmp_path / 'openai.pt')
    clip = dict(
        model_name=saved(tmp_path, {**description, 'quick_gelu': False}), pretrained=str(tmp_path / 'openai.pt')
    )
    with pytest.raises(ValueError, match='trained with QuickGELU.*"quick_gelu": true'):
        ClipSource(clip).image_tower()
    for activation, kind in (('gelu', torch.nn.GELU), ('quick_gelu', open_clip.transformer.QuickGELU)):
        tower = ClipSource(dict(clip, activation=activation)).image_tower()
        assert type(tower.transformer.resblocks[0].mlp.gelu) is kind


def test_other_files_log_their_activation_and_overrides_are_logged(mini_clip, logged):
    ClipSource(mini_clip).image_tower()
    source = ClipSource(dict(mini_clip, activation='gelu', norm_eps=1e-6))
    text = ' '.join(logged)
    assert 'runs it with QuickGELU' in text
    for tower in ('image', 'text'):
        assert f'clip.activation: the {tower} tower runs with gelu on purpose' in text
        assert f'clip.norm_eps: the {tower} tower runs with 1e-06 on purpose' in text
    assert (source.image_tower().ln_post.eps, source.text_tower().ln_final.eps) == (1e-6, 1e-6)


def test_overrides_of_one_tower(mini_clip):
    source = ClipSource(dict(mini_clip, activation=dict(image='gelu'), norm_eps=dict(text=1e-3)))
    image, text = source.image_tower(), source.text_tower()
    assert type(image.transformer.resblocks[0].mlp.gelu) is torch.nn.GELU
    assert type(text.transformer.resblocks[0].mlp.gelu) is open_clip.transformer.QuickGELU
    assert (image.ln_post.eps, text.ln_final.eps) == (1e-5, 1e-3)


@pytest.mark.parametrize(
    'change, words',
    [
        (dict(layers=4), r'visual.transformer.resblocks.3.* is missing in the file'),
        (dict(layers=2), r'visual.transformer.resblocks.2.* is unknown to the model'),
        (dict(width=64), r'visual.class_embedding is 128 in the file and 64 in the model'),
        (dict(image_size=448), r'visual.positional_embedding is 197x128 in the file and 785x128 in the model'),
    ],
    ids=str,
)
def test_weights_of_another_architecture_are_refused(tmp_path, description, mini_weights, change, words):
    description['vision_cfg'].update(change)
    with pytest.raises(ValueError, match=f'do not fit the architecture.*{words}'):
        ClipSource(dict(model_name=saved(tmp_path, description), pretrained=str(mini_weights))).image_tower()


def test_a_longer_text_table_is_not_resized_silently(tmp_path, description, mini_weights):
    description['text_cfg']['context_length'] = 64
    with pytest.raises(ValueError, match='positional_embedding is 77x64 in the file and 64x64'):
        ClipSource(dict(model_name=saved(tmp_path, description), pretrained=str(mini_weights))).image_tower()


@pytest.mark.parametrize('content', [{'a': 1}, [torch.zeros(2)], {'state_dict': {}}, {'epoch': 3, 'w': torch.ones(1)}])
def test_files_without_a_state_dict_are_refused(tmp_path, mini_json, content):
    torch.save(content, tmp_path / 'odd.pt')
    with pytest.raises(ValueError, match='odd.pt'):
        ClipSource(dict(model_name=str(mini_json), pretrained=str(tmp_path / 'odd.pt'))).image_tower()


def test_a_safetensors_file_is_known_by_its_content(tmp_path, mini_json, mini_state):
    from safetensors.torch import save_file

    save_file(mini_state, tmp_path / 'weights.bin')
    tower = ClipSource(dict(model_name=mini_json, pretrained=tmp_path / 'weights.bin')).image_tower()
    assert torch.equal(tower.proj, mini_state['visual.proj'])


def test_a_home_folder_reaches_the_tokenizer(tmp_path, monkeypatch, description, mini_state):
    monkeypatch.setenv('HOME', str(tmp_path))
    (tmp_path / 'clip').mkdir()
    saved(tmp_path / 'clip', dict(model_cfg=description, preprocess_cfg={}), 'open_clip_config.json')
    torch.save(mini_state, tmp_path / 'clip' / 'model.pt')
    assert ClipSource(dict(model_name='local-dir:~/clip')).tokenizer()(['a cat']).shape == (1, 77)


def test_another_tokenizer_is_not_replaced_silently(tmp_path, description, monkeypatch):
    description['text_cfg']['hf_tokenizer_name'] = 'some/tokenizer'
    asked = []
    monkeypatch.setattr(source_module, 'HFTokenizer', lambda name, **options: asked.append((name, options)))
    ClipSource(dict(model_name=saved(tmp_path, description))).tokenizer()
    assert asked[0][0] == 'some/tokenizer'
    assert asked[0][1]['context_length'] == 77


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


def test_an_unknown_position_rule_is_refused(mini_clip):
    with pytest.raises(ValueError, match="backbone.positions is 'sizes'. Did you mean 'size'"):
        MODELS.build(dict(type='CLIPVisionTransformer', clip=mini_clip, positions='sizes'))
