"""Lower precisions, autocast, gradients, and the fused modules inside open_clip's blocks."""

import copy
import json

import pytest
import torch
from mmseg.registry import MODELS
from open_clip import CLIP
from open_clip.transformer import LayerNormFp32

from mmseg_sclip.errors import ConfigError
from mmseg_sclip.models.clip import ClipSource
from mmseg_sclip.models.clip.fused import FusedQuickGELU, FusedSelfAttention, fuse_block
from mmseg_sclip.models.clip.prompt_encoding import encode_prompts

TYPES = {'fp16': torch.float16, 'bf16': torch.bfloat16}
ATTENTIONS = [
    dict(type='CorrelativeSelfAttention'),
    dict(type='CorrelativeSelfAttention', projections=['random', 'identity'], reduction='mean'),
    dict(type='VanillaSelfAttention'),
    dict(type='IdentityAttention'),
    dict(type='LocalSelfAttention'),
    dict(type='EarlierAttention', block=2),
]


def build(clip, precision='fp32', **attention):
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


def random_block(quick=True, scale=None):
    """A block of open_clip with random weights, and its input (B, N, width)."""
    torch.manual_seed(0)
    vision = dict(image_size=64, layers=1, width=128, head_width=32, patch_size=16, ls_init_value=scale)
    visual = CLIP(64, vision, dict(width=64, heads=1, layers=1), quick_gelu=quick).visual
    block = visual.transformer.resblocks[0].eval()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return block, torch.randn(3, 17, 128)


@pytest.mark.parametrize('quick', [True, False])
@pytest.mark.parametrize('scale', [None, 0.1])
def test_a_fused_block_equals_open_clips_in_value_gradient_and_state(quick, scale):
    theirs, x = random_block(quick, scale)
    ours = fuse_block(copy.deepcopy(theirs))
    assert type(ours.attn) is FusedSelfAttention
    assert (type(ours.mlp.gelu) is FusedQuickGELU) is quick
    assert {key: value.shape for key, value in ours.state_dict().items()} == {
        key: value.shape for key, value in theirs.state_dict().items()
    }
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    outputs = [block(value) for block, value in zip((ours, theirs), inputs, strict=True)]
    torch.testing.assert_close(*outputs, atol=1e-4, rtol=1e-5)
    for output in outputs:
        output.square().sum().backward()
    scale_of_gradient = inputs[1].grad.abs().max()
    assert (inputs[0].grad - inputs[1].grad).abs().max() < 1e-5 * scale_of_gradient
    assert (ours.mlp.c_fc.weight.grad - theirs.mlp.c_fc.weight.grad).abs().max() < 1e-5 * (
        theirs.mlp.c_fc.weight.grad.abs().max()
    )
    assert torch.equal(inputs[0].detach(), x)  # nothing was changed in place
    with torch.no_grad():
        assert torch.equal(ours(x), outputs[0])


def test_the_fused_activation_has_the_right_gradient():
    x = torch.linspace(-6, 6, 25, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(FusedQuickGELU(), (x,))
    torch.testing.assert_close(FusedQuickGELU()(x), x * torch.sigmoid(1.702 * x))


@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
@pytest.mark.parametrize('attention', ATTENTIONS, ids=str)
def test_gradients_change_no_bit(mini_clip, precision, attention):
    model = build(mini_clip, precision, **attention)
    torch.manual_seed(0)
    image = torch.randn(3, 96, 128)
    with torch.no_grad():
        scores = model._forward(image[None])
        (expected,) = model.predict([image])
    assert torch.equal(model._forward(image[None]), scores)
    assert torch.equal(model._forward(image[None].requires_grad_()).detach(), scores)
    assert torch.equal(model.predict([image.detach()])[0].pred_sem_seg.data, expected.pred_sem_seg.data)


@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
@torch.no_grad()
def test_what_users_put_into_a_block_counts(mini_clip, precision):
    model, images = build(mini_clip, precision), torch.randn(1, 3, 64, 64)
    before, block = model._forward(images), model.backbone.tower.block(1)

    def differs():
        return bool((model._forward(images) - before).abs().max() > 1e-3)

    assert not differs()
    for owner in (block, block.attn, block.mlp.gelu, block.mlp.c_fc):
        original = owner.forward
        owner.forward = lambda *args, original=original, **more: _doubled(original(*args, **more))
        assert differs()
        owner.forward = original
        handle = owner.register_forward_hook(lambda module, inputs, output: _doubled(output))
        assert differs()
        handle.remove()
        assert not differs()

    class Doubled(torch.nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    own = Doubled(128, 512).to(block.mlp.c_fc.weight.dtype)
    own.load_state_dict(block.mlp.c_fc.state_dict())
    block.mlp.c_fc = own
    assert differs()


def _doubled(output):
    return (2 * output[0], *output[1:]) if isinstance(output, tuple) else 2 * output


@pytest.mark.parametrize('precision', TYPES)
def test_weights_have_the_type_once_and_norms_stay_float32(mini_clip, precision):
    source = ClipSource(**mini_clip, precision=precision)
    for tower in (source.visual, source.text_tower()):
        products = [m.weight for m in tower.modules() if isinstance(m, (torch.nn.Linear, torch.nn.Conv2d))]
        products += [m.in_proj_weight for m in tower.modules() if isinstance(m, torch.nn.MultiheadAttention)]
        assert {weight.dtype for weight in products} == {TYPES[precision]}
        norms = [m for m in tower.modules() if isinstance(m, torch.nn.LayerNorm)]
        assert norms and all(isinstance(m, LayerNormFp32) and m.weight.dtype == torch.float32 for m in norms)


@pytest.mark.parametrize('precision', TYPES)
@pytest.mark.parametrize('attention', ATTENTIONS, ids=str)
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
    b = tower.block_input(tower.depth, memory)
    assert b.q.dtype == torch.bfloat16
    weights = model.backbone.decoder.attention.weights(b)
    assert weights.dtype == torch.float32
    torch.testing.assert_close(weights.sum(-1), torch.full(weights.shape[:-1], 2.0), atol=1e-5, rtol=0)


@torch.no_grad()
def test_autocast_acts_on_float32_weights_only(mini_clip):
    torch.manual_seed(0)
    image = torch.randn(1, 3, 64, 64)
    exact, lower = build(mini_clip, 'fp32'), build(mini_clip, 'fp16')  # another type than the autocast's
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
    tower = ClipSource(**clip).text_tower()
    tokens = SimpleTokenizer()(['a photo of a cat.', 'a dog'])
    found = encode_prompts(tower, tokens)
    assert torch.cosine_similarity(found, model.encode_text(tokens)).min() > 0.99


def test_gradients_after_a_prediction_in_inference_mode(mini_clip):
    model = build(mini_clip, type='CorrelativeSelfAttention', projections=['learned'])
    image = torch.randn(3, 64, 96)
    with torch.inference_mode():
        expected = model.predict([image])[0].pred_sem_seg.data.clone()
    assert torch.equal(model.predict([image])[0].pred_sem_seg.data, expected)


def test_a_block_of_another_open_clip_is_known_or_refused():
    theirs, x = random_block()

    class Own(torch.nn.Module):
        """An attention class of another version: the same weights, called in another way."""

        def __init__(self, attention):
            super().__init__()
            self.num_heads, self.in_proj_weight = attention.num_heads, attention.in_proj_weight
            self.in_proj_bias, self.out_proj = attention.in_proj_bias, attention.out_proj

    other = copy.deepcopy(theirs)
    other.attn = Own(other.attn)
    with torch.no_grad():
        torch.testing.assert_close(fuse_block(other)(x), theirs(x), atol=1e-4, rtol=1e-5)
    other = copy.deepcopy(theirs)
    other.attn.q_norm = torch.nn.LayerNorm(8)
    with pytest.raises(ConfigError, match='which is not known here. Install open_clip_torch'):
        fuse_block(other)
