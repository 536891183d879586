"""The contracts of attention, decoder and backbone, used from outside the package."""

import json
from pathlib import Path

import pytest
import torch
from mmseg.registry import MODELS

from mmseg_sclip.models import Attention, BlockInput, Feedback
from mmseg_sclip.models.clip import ClipSource


@MODELS.register_module()
class ToyTwoPass(Attention):
    """Vanilla in the first pass; in the second, patches attend to patches of the same best query."""

    passes = 2

    def __init__(self):
        super().__init__()
        self.seen = []

    def terms(self, b: BlockInput):
        self.seen.append(b.feedback)
        logits = b.q @ b.k.transpose(-1, -2) * b.scale
        if b.feedback is not None:
            best = b.feedback.scores.argmax(1).flatten(1)  # (B, n)
            same = (best[:, :, None] == best[:, None, :]).float() * 3
            logits = logits + torch.nn.functional.pad(same, (1, 0, 1, 0))[:, None]
        return [logits]


@MODELS.register_module()
class ToyEarlier(Attention):
    """The q-k map of an earlier block."""

    def __init__(self, block=1):
        super().__init__()
        self.block = block

    def bind(self, tower):
        self.needs = frozenset({tower.block_number(self.block) - 1})
        self.gain = torch.nn.Parameter(torch.ones(tower.heads, 1, 1))

    def terms(self, b: BlockInput):
        source = b.earlier(self.block)
        return [source.q @ source.k.transpose(-1, -2) * source.scale * self.gain]


def model_config(clip, **attention):
    return dict(
        type='SCLIPSegmentor',
        clip=clip,
        backbone=dict(type='CLIPVisionTransformer', decoder=dict(type='LastBlock', attention=attention)),
        decode_head=dict(type='TextSimilarityHead', vocabulary=['cat', 'dog', 'tree'], templates='simple'),
        test_cfg=dict(crop_size=(64, 64), stride=(32, 32)),
    )


def backbone_config(clip, **attention):
    return dict(type='CLIPVisionTransformer', clip=clip, decoder=dict(type='LastBlock', attention=attention))


def test_two_passes_see_the_scores_of_the_first(mini_clip):
    model = MODELS.build(model_config(mini_clip, type='ToyTwoPass')).eval()
    ran = []
    model.backbone.tower.block(1).register_forward_hook(lambda *_: ran.append(1))
    images = torch.randn(2, 3, 48, 64)
    with torch.no_grad():
        two_pass = model._forward(images)
    first, second = model.backbone.decoder.attention.seen
    assert first is None
    assert second.scores.shape == (2, 3, 3, 4)
    assert len(ran) == 1  # the tower runs once for both passes
    vanilla = MODELS.build(model_config(mini_clip, type='VanillaSelfAttention')).eval()
    with torch.no_grad():
        torch.testing.assert_close(second.scores, vanilla._forward(images), atol=1e-5, rtol=0)
        assert (two_pass - second.scores).abs().max() > 1e-3
        assert model.predict([images[0]])[0].pred_sem_seg.data.shape == (1, 48, 64)


def test_two_passes_also_in_mmsegs_own_slide_loop(mini_clip):
    model = MODELS.build(model_config(mini_clip, type='ToyTwoPass')).eval()
    with torch.no_grad():
        model.slide_inference(torch.randn(1, 3, 64, 96), [dict(ori_shape=(64, 96))])
    assert [feedback is None for feedback in model.backbone.decoder.attention.seen] == [True, False] * 2


def test_a_backbone_alone_refuses_several_passes(mini_clip):
    backbone = MODELS.build(backbone_config(mini_clip, type='ToyTwoPass'))
    with pytest.raises(ValueError, match='wants 2 passes'):
        backbone(torch.randn(1, 3, 64, 64))


@pytest.mark.parametrize('block', [1, -3])
def test_the_map_of_an_earlier_block(mini_clip, block):
    backbone = MODELS.build(backbone_config(mini_clip, type='ToyEarlier', block=block))
    assert backbone.decoder.needs == {0, 2}
    assert [name for name, p in backbone.named_parameters() if p.requires_grad] == ['decoder.attention.gain']
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        memory = backbone.record(images)
        assert sorted(memory) == [0, 2]
        # Block 1 by hand: its attention map from the embedding, through torch's own module.
        first = ClipSource(**mini_clip).visual.transformer.resblocks[0]
        x = first.ln_1(backbone.tower.embed(images)[0])
        _, expected = first.attn(x, x, x, need_weights=True, average_attn_weights=False)
        b = backbone.tower.block_input(3, memory)
        assert torch.equal(b.images, images) and b.grid == memory.grid == (4, 4)
        torch.testing.assert_close(backbone.decoder.attention.weights(b), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize('name', ['ToyEarlier', 'EarlierAttention'])
def test_the_earlier_map_of_the_last_block_is_vanilla(mini_clip, name):
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        (earlier,) = MODELS.build(backbone_config(mini_clip, type=name, block=-1))(images)
        (vanilla,) = MODELS.build(backbone_config(mini_clip, type='VanillaSelfAttention'))(images)
    torch.testing.assert_close(earlier, vanilla, atol=1e-4, rtol=0)


def test_an_earlier_block_sees_the_same_pass(mini_clip):
    backbone = MODELS.build(backbone_config(mini_clip, type='EarlierAttention', block=2))
    with torch.no_grad():
        memory = backbone.record(torch.randn(1, 3, 64, 64))
        b = backbone.tower.block_input(3, memory, Feedback(torch.zeros(1, 3, 4, 4)))
        assert b.earlier(2).feedback is b.feedback
        assert torch.equal(b.earlier(2).images, memory.images)


def test_the_tower_runs_no_further_than_it_must(mini_clip):
    tower = MODELS.build(backbone_config(mini_clip, type='VanillaSelfAttention')).tower
    ran = []
    for number in (1, 2, 3):
        tower.block(number).register_forward_hook(lambda *_, number=number: ran.append(number))
    with torch.no_grad():
        memory = tower.record(torch.randn(1, 3, 64, 64), {0, 2})
    assert (sorted(memory), ran) == ([0, 2], [1, 2])


def test_a_block_that_was_not_recorded_is_named(mini_clip):
    backbone = MODELS.build(backbone_config(mini_clip, type='VanillaSelfAttention'))
    memory = backbone.record(torch.randn(1, 3, 64, 64))
    with pytest.raises(LookupError, match='Block 1 .* output of block 0 is not recorded'):
        backbone.tower.block_input(3, memory).earlier(1)
    with pytest.raises(ValueError, match='no block 4'):
        backbone.tower.block_number(4)


def test_vanilla_with_residual_and_ffn_is_clip_itself(mini_clip):
    backbone = MODELS.build(dict(backbone_config(mini_clip, type='VanillaSelfAttention'), out_cls=True))
    images = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        ((features, cls),) = backbone(images)
        expected = ClipSource(**mini_clip).visual(images)  # open_clip's own forward and modules
    assert features.shape == (2, 64, 14, 14)
    torch.testing.assert_close(cls, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize('residual', [True, False])
@pytest.mark.parametrize('ffn', [True, False])
def test_residual_and_ffn_switches(mini_clip, residual, ffn):
    config = backbone_config(mini_clip, type='IdentityAttention')
    config['decoder'].update(residual=residual, ffn=ffn)
    backbone = MODELS.build(config)
    tower, images = backbone.tower, torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        x = tower.record(images, {2})[2]
        block = tower.block(3)
        value = torch.nn.functional.linear(
            block.ln_1(x), block.attn.in_proj_weight[256:], block.attn.in_proj_bias[256:]
        )
        z = block.attn.out_proj(value)
        z = z + x if residual else z
        z = z + block.mlp(block.ln_2(z)) if ffn else z
        expected = (tower.visual.ln_post(z) @ tower.visual.proj)[:, 1:].transpose(1, 2).unflatten(2, (4, 4))
        torch.testing.assert_close(backbone(images)[0], expected, atol=1e-4, rtol=0)


def test_instances_are_accepted_in_place_of_configs(mini_clip):
    backbone = MODELS.build(
        dict(type='CLIPVisionTransformer', clip=mini_clip, decoder=dict(type='LastBlock', attention=ToyTwoPass()))
    )
    assert backbone.passes == 2


@pytest.mark.parametrize('residual', [True, False])
def test_layer_scale_is_part_of_the_last_block(mini_clip, residual, tmp_path):
    description = json.loads(Path(mini_clip['model_name']).read_text())
    description['vision_cfg']['ls_init_value'] = 0.3
    (tmp_path / 'scaled.json').write_text(json.dumps(description))
    clip = dict(model_name=str(tmp_path / 'scaled.json'))
    torch.manual_seed(0)
    backbone = MODELS.build(dict(backbone_config(clip, type='VanillaSelfAttention'), out_cls=True))
    backbone.decoder.residual = residual
    images, tower = torch.randn(1, 3, 64, 64), backbone.tower
    with torch.no_grad():
        for branch in ('ls_1', 'ls_2'):
            getattr(tower.block(3), branch).gamma.uniform_(0.2, 2)
        x = tower.record(images, {2})[2]
        block = tower.block(3)
        z = block.ls_1(block.attn(block.ln_1(x))[0])
        z = z + x if residual else z
        z = z + block.ls_2(block.mlp(block.ln_2(z)))
        ((_, cls),) = backbone(images)
        torch.testing.assert_close(cls, (tower.visual.ln_post(z) @ tower.visual.proj)[:, 0], atol=1e-5, rtol=0)


@pytest.mark.parametrize('name', ['CorrelativeSelfAttention', 'VanillaSelfAttention', 'IdentityAttention'])
@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
def test_decoding_changes_nothing_of_the_record(mini_clip, name, precision):
    backbone = MODELS.build(backbone_config(dict(mini_clip, precision=precision), type=name))
    with torch.no_grad():
        images = torch.randn(1, 3, 64, 64)
        memory = backbone.tower.record(images, {0, 1, 2, 3})
        before, pixels = {number: output.clone() for number, output in memory.items()}, images.clone()
        first, again = backbone.decode(memory), backbone.decode(memory)
        assert torch.equal(first.patches, again.patches)
        assert all(torch.equal(memory[number], before[number]) for number in before) and torch.equal(images, pixels)
        for number in (1, 2, 3):
            assert torch.equal(backbone.tower.block(number)(memory[number - 1]), before[number])


def test_a_stream_of_a_decoders_own(mini_clip):
    backbone = MODELS.build(backbone_config(mini_clip, type='VanillaSelfAttention'))
    tower, images = backbone.tower, torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        memory = tower.record(images, {1, 2})
        recorded = tower.block_input(3, memory)
        given = tower.block_input(3, tower.record(images, {0}), stream=memory[2])
        assert torch.equal(recorded.q, given.q) and torch.equal(recorded.x, given.x)
        b = tower.block_input(2, memory)
        x = memory[1] + tower.attention_branch(2, backbone.decoder.attention.attend(b))
        x = x + tower.feed_forward_branch(2, x)
        torch.testing.assert_close(x, memory[2], atol=1e-4, rtol=0)
