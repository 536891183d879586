"""fp16 and bf16, autocast, and the blocks that are run without copies."""

import json

import pytest
import torch
from mmseg.registry import MODELS
from open_clip import CLIP
from open_clip.transformer import LayerNormFp32

from mmseg_sclip.models.clip import ClipSource
from mmseg_sclip.models.clip.blocks import run_block
from mmseg_sclip.models.text.prompt_encoding import encode_prompts

TYPES = {'fp16': torch.float16, 'bf16': torch.bfloat16}


def build(clip, precision, **attention):
    return MODELS.build(
        dict(
            type='SCLIPSegmentor',
            clip=dict(clip, precision=precision),
            backbone=dict(
                type='CLIPVisionTransformer',
                decoder=dict(type='LastBlock', attention=attention or dict(type='CorrelativeSelfAttention')),
            ),
            decode_head=dict(type='TextSimilarityHead', vocabulary=['cat', 'dog', 'tree'], templates='simple'),
            test_cfg=dict(crop_size=(64, 64), stride=(32, 32)),
        )
    ).eval()


@pytest.mark.parametrize('quick', [True, False])
@pytest.mark.parametrize('scale', [None, 0.1])
@torch.no_grad()
def test_run_block_equals_open_clips_block(quick, scale):
    torch.manual_seed(0)
    vision = dict(image_size=64, layers=2, width=128, head_width=32, patch_size=16, ls_init_value=scale)
    block = CLIP(64, vision, dict(width=64, heads=1, layers=1), quick_gelu=quick).visual.transformer.resblocks[1].eval()
    for parameter in block.parameters():
        parameter.normal_(std=0.3)
    x = torch.randn(3, 17, 128)
    before = x.clone()
    torch.testing.assert_close(run_block(block, x), block(x), atol=1e-4, rtol=1e-5)
    assert torch.equal(x, before)


def test_gradients_take_open_clips_own_way():
    torch.manual_seed(0)
    vision = dict(image_size=64, layers=1, width=64, head_width=32, patch_size=16)
    block = CLIP(64, vision, dict(width=64, heads=1, layers=1), quick_gelu=True).visual.transformer.resblocks[0]
    x = torch.randn(1, 17, 64, requires_grad=True)
    run_block(block, x).sum().backward()
    ours, x.grad = x.grad, None
    block(x).sum().backward()
    assert torch.equal(ours, x.grad)


@torch.no_grad()
def test_hooks_on_a_block_and_in_it_are_called(mini_clip):
    model = build(mini_clip, 'fp32')
    block, called = model.backbone.tower.block(1), []
    block.register_forward_hook(lambda *_: called.append('block'))
    block.attn.register_forward_hook(lambda *_: called.append('attn'))
    model._forward(torch.randn(1, 3, 64, 64))
    assert called == ['attn', 'block']


@pytest.mark.parametrize('precision', TYPES)
def test_weights_have_the_type_once_and_norms_stay_float32(mini_clip, precision):
    source = ClipSource(dict(mini_clip, precision=precision))
    for tower in (source.image_tower(), source.text_tower()):
        products = [m.weight for m in tower.modules() if isinstance(m, (torch.nn.Linear, torch.nn.Conv2d))]
        products += [m.in_proj_weight for m in tower.modules() if isinstance(m, torch.nn.MultiheadAttention)]
        assert {weight.dtype for weight in products} == {TYPES[precision]}
        norms = [m for m in tower.modules() if isinstance(m, torch.nn.LayerNorm)]
        assert norms and all(isinstance(m, LayerNormFp32) and m.weight.dtype == torch.float32 for m in norms)


@pytest.mark.parametrize('precision', TYPES)
@pytest.mark.parametrize(
    'attention',
    [
        dict(type='CorrelativeSelfAttention'),
        dict(type='CorrelativeSelfAttention', projections=['random', 'identity'], reduction='mean'),
        dict(type='VanillaSelfAttention'),
        dict(type='IdentityAttention'),
        dict(type='LocalSelfAttention'),
        dict(type='EarlierAttention', block=2),
    ],
    ids=str,
)
@torch.no_grad()
def test_lower_precision_is_near_float32(mini_clip, precision, attention):
    torch.manual_seed(0)
    image = torch.randn(3, 96, 128)
    exact, lower = (build(mini_clip, name, **attention) for name in ('fp32', precision))
    expected, scores = exact._forward(image[None]), lower._forward(image[None])
    assert scores.dtype == torch.float32
    assert (scores - expected).abs().max() < 0.05
    assert torch.corrcoef(torch.stack([scores.flatten(), expected.flatten()]))[0, 1] > 0.99
    same = lower.predict([image])[0].pred_sem_seg.data == exact.predict([image])[0].pred_sem_seg.data
    assert same.float().mean() > 0.9


@torch.no_grad()
def test_softmax_sums_are_float32_in_bfloat16(mini_clip):
    model = build(mini_clip, 'bf16')
    tower = model.backbone.tower
    memory = model.backbone.record(torch.randn(1, 3, 224, 224))
    b = tower.block_input(tower.depth, memory, memory.grid)
    assert b.q.dtype == torch.bfloat16
    weights = model.backbone.decoder.attention.weights(b)
    assert weights.dtype == torch.float32
    torch.testing.assert_close(weights.sum(-1), torch.full(weights.shape[:-1], 2.0), atol=1e-5, rtol=0)


@torch.no_grad()
def test_autocast_acts_on_float32_weights_only(mini_clip):
    torch.manual_seed(0)
    image = torch.randn(1, 3, 64, 64)
    exact, lower = build(mini_clip, 'fp32'), build(mini_clip, 'bf16')
    plain = [model._forward(image) for model in (exact, lower)]
    with torch.autocast('cpu', torch.bfloat16):
        cast = [model._forward(image) for model in (exact, lower)]
    assert not torch.equal(cast[0], plain[0]) and (cast[0] - plain[0]).abs().max() < 0.05
    assert torch.equal(cast[1], plain[1])


@pytest.mark.parametrize('precision', TYPES)
@pytest.mark.parametrize(
    'text', [dict(proj_bias=True, pool_type='eos', eos_id=49407), dict(embed_cls=True), dict(scale_heads=True)], ids=str
)
@torch.no_grad()
def test_odd_text_towers_in_lower_precision(text, precision, tmp_path):
    from open_clip import CustomTextCLIP, SimpleTokenizer

    vision = dict(image_size=32, layers=1, width=64, head_width=32, patch_size=16, ls_init_value=0.1)
    words = dict(context_length=77, vocab_size=49408, width=64, heads=2, layers=2, **text)
    torch.manual_seed(0)
    model = CustomTextCLIP(64, vision, words).eval()
    torch.save(model.state_dict(), tmp_path / 'weights.pt')
    content = dict(embed_dim=64, vision_cfg=vision, text_cfg=words, custom_text=True)
    (tmp_path / 'odd.json').write_text(json.dumps(content))
    clip = dict(model_name=str(tmp_path / 'odd.json'), pretrained=str(tmp_path / 'weights.pt'), precision=precision)
    tower = ClipSource(clip).text_tower()
    tokens = SimpleTokenizer()(['a photo of a cat.', 'a dog'])
    found = encode_prompts(tower, tokens)
    assert torch.cosine_similarity(found, model.encode_text(tokens)).min() > 0.99


@torch.no_grad()
def test_changed_blocks_are_run_as_they_are(mini_clip):
    class Doubled(torch.nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    torch.manual_seed(0)
    model = build(mini_clip, 'fp32')
    block, x = model.backbone.tower.block(1), torch.randn(1, 17, 128)
    before = run_block(block, x)
    own = Doubled(128, 512)
    own.load_state_dict(block.mlp.c_fc.state_dict())
    block.mlp.c_fc = own
    torch.testing.assert_close(run_block(block, x), block(x))
    assert (run_block(block, x) - before).abs().max() > 0.01
    seen = []
    handle = torch.nn.modules.module.register_module_forward_hook(lambda module, *_: seen.append(type(module).__name__))
    try:
        run_block(model.backbone.tower.block(2), x)
    finally:
        handle.remove()
    assert 'MultiheadAttention' in seen


def test_gradients_after_a_prediction_in_inference_mode(mini_clip):
    model = build(mini_clip, 'fp32', type='CorrelativeSelfAttention', projections=['learned'])
    image = torch.randn(3, 64, 96)
    with torch.inference_mode():
        expected = model.predict([image])[0].pred_sem_seg.data.clone()
    assert torch.equal(model.predict([image])[0].pred_sem_seg.data, expected)
