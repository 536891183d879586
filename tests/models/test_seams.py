"""The record and the parts that read it, used from outside the package; the decoders and the backbone against CLIP."""

from types import SimpleNamespace

import pytest
import torch
from helpers import build
from mmseg.registry import MODELS
from torch import nn

from mmseg_sclip.errors import BadFileError, ConfigError
from mmseg_sclip.models import Affinity, Attention, Feedback, Part, Record
from mmseg_sclip.models.clip import POSITION_RULES

VANILLA = dict(type='VanillaSelfAttention')


@MODELS.register_module()
class ToyTwoPass(Attention):
    """Vanilla in the first pass; in the second, patches attend to patches of the same best query."""

    passes = 2

    def __init__(self):
        super().__init__()
        self.seen = []

    def terms(self, b):
        self.seen.append(b.feedback)
        logits = b.q @ b.k.transpose(-1, -2) * b.scale
        if b.feedback is not None:
            best = b.feedback.scores.argmax(1).flatten(1)  # (B, n)
            same = (best[:, :, None] == best[:, None, :]).float() * 3
            logits = logits + nn.functional.pad(same, (1, 0, 1, 0))[:, None]
        return [logits]


def backbone_of(clip, attention=VANILLA, decoder=(), **more):
    decoder = dict(type='LastBlock', attention=attention, **dict(decoder))
    return MODELS.build(dict(type='CLIPVisionTransformer', clip=clip, decoder=decoder, **more))


def open_clips_own(source):
    """open_clip's own image tower, whose blocks are not fused, with the weights of a source."""
    visual = source.empty_visual()
    visual.load_state_dict(source.visual.state_dict(), assign=True)
    return visual


def ran_blocks(tower):
    """A list to which each block adds its number when it runs, and what undoes that."""
    ran = []
    hooks = [
        tower.block(number).register_forward_hook(lambda *_, number=number: ran.append(number))
        for number in range(1, tower.depth + 1)
    ]
    return ran, lambda: [hook.remove() for hook in hooks]


def test_a_part_wants_what_the_parts_inside_it_want():
    class Wants(Part):
        def __init__(self, needs, companions, passes, inner=()):
            super().__init__()
            self.needs, self.companions, self.passes = frozenset(needs), frozenset(companions), passes
            self.inner = nn.ModuleDict({'nested': nn.ModuleList(inner)})

    tower = SimpleNamespace(block_numbers=lambda numbers: frozenset(number % 4 for number in numbers))
    leaf, other = Wants([-1], ['depth'], 3), Wants([0], [], 1)
    outer = Wants([-3], ['colours'], 2, [Wants([2], [], 1, [leaf]), other])
    outer.bind(tower)
    assert (outer.needs, outer.companions, outer.passes) == ({0, 1, 2, 3}, {'colours', 'depth'}, 3)
    assert (leaf.needs, other.needs, other.companions, other.passes) == ({3}, {0}, frozenset(), 1)


def test_what_a_record_makes_is_made_once_and_shared_by_those_who_read_it():
    class Counts(Affinity):
        calls = 0

        def forward(self, record):
            self.calls += 1
            assert record.images is images and not torch.is_autocast_enabled('cpu')
            return torch.zeros(1)

    images, parts = torch.zeros(1), [Counts(), Counts()]
    tower = SimpleNamespace(prefix=1, own_precision=lambda device: torch.autocast('cpu', enabled=False))
    record = Record(tower, images, (1, 2), {1: torch.arange(6.0).view(1, 3, 2)}, ['here'])
    theirs, mine = record.read_by({}), record.read_by({'mine': parts[0]})
    with torch.autocast('cpu', torch.bfloat16):
        assert mine.once(parts[0]) is theirs.once(parts[0]) is mine.companion('mine')
        assert theirs.once(parts[1]) is not mine.once(parts[0])
    assert [part.calls for part in parts] == [1, 1]
    with pytest.raises(LookupError, match="no companion 'mine' .there are: ..."):
        theirs.companion('mine')
    assert not record.companions and mine.places == ('here',) and 1 in mine and 2 not in mine
    assert mine.patches(1).tolist() == [[[2, 3], [4, 5]]]


@torch.no_grad()
def test_two_passes_see_the_scores_of_the_first(source):
    model, images = build(source, dict(type='ToyTwoPass')), torch.randn(2, 3, 48, 64)
    ran, undo = ran_blocks(model.backbone.tower)
    two_pass = model._forward(images)
    undo()
    assert ran == [1, 2]  # the tower runs once for both passes, and no further than it must
    first, second = model.backbone.decoder.attention.seen
    assert first is None and second.scores.shape == (2, 4, 3, 4)
    torch.testing.assert_close(second.scores, build(source, VANILLA)._forward(images), atol=1e-5, rtol=0)
    assert (two_pass - second.scores).abs().max() > 1e-3
    model.backbone.decoder.attention.seen.clear()
    model.slide_inference(torch.randn(1, 3, 64, 96), [dict(ori_shape=(64, 96))])  # MMSegmentation's own loop
    assert [feedback is None for feedback in model.backbone.decoder.attention.seen] == [True, False] * 2
    backbone = backbone_of(source, ToyTwoPass())  # an instance in place of a config
    with pytest.raises(ConfigError, match='wants 2 passes'):
        backbone(images)


@torch.no_grad()
def test_the_input_of_a_block(source):
    backbone, images = backbone_of(source), torch.randn(1, 3, 64, 80)
    tower, record = backbone.tower, backbone.tower.record(images, {0, 1, 3})
    assert [number for number in range(4) if number in record] == [0, 1, 3] and record.grid == (4, 5)
    b = record.block_input(-2, feedback=Feedback(torch.zeros(1)))
    x = source.visual.transformer.resblocks[1].ln_1(record[1])
    assert torch.equal(b.x, x) and (b.grid, b.prefix, b.scale) == ((4, 5), 1, 64**-0.5)
    for values, ours in zip(tower.block(2).attn.project(x), (b.q, b.k, b.v), strict=True):
        assert torch.equal(values, ours)
    assert b.earlier(1).feedback is b.feedback and b.earlier(1).record is record
    assert torch.equal(b.earlier(-3).q, record.block_input(1).q)
    given = tower.record(images, {0}).block_input(2, stream=record[1])
    assert torch.equal(given.q, b.q)
    stream = record[1] + tower.attention_branch(2, backbone.decoder.attention.attend(b))
    stream = tower.run_block(3, stream + tower.feed_forward_branch(2, stream))
    torch.testing.assert_close(stream, record[3], atol=1e-4, rtol=0)
    with pytest.raises(LookupError, match='output of block 2 is not recorded .*0, 1, 3.*Put 2 into the `needs`'):
        b.earlier(3)
    with pytest.raises(LookupError, match='Block 0 is the embedding'):
        record.block_input(0)
    with pytest.raises(ConfigError, match='no block -4: .* the blocks 1 to 3'):
        tower.block_number(-4)
    assert tower.block_numbers([-1, 3, 0, -3]) == {3, 0, 1}
    for named in ([], [0], [1, -3]):
        with pytest.raises(ConfigError, match='blocks count from 1, one or more'):
            tower.blocks_named('x', named)


@pytest.mark.parametrize('residual', [True, False])
@pytest.mark.parametrize('ffn', [True, False])
@torch.no_grad()
def test_residual_feed_forward_part_and_layer_scale(random_clip, residual, ffn):
    source, images = random_clip(ls_init_value=0.3), torch.randn(1, 3, 64, 64)
    backbone = backbone_of(source, decoder=dict(residual=residual, ffn=ffn), out_cls=True)
    x = backbone.tower.record(images, {2})[2]
    visual = open_clips_own(source)
    block = visual.transformer.resblocks[2]
    value = block.ln_1(x)
    z = 0.3 * block.attn(value, value, value)[0] + (x if residual else 0)
    z = z + 0.3 * block.mlp(block.ln_2(z)) if ffn else z
    expected = visual.ln_post(z) @ visual.proj
    ((features, cls),) = backbone(images)
    torch.testing.assert_close(features, expected[:, 1:].transpose(1, 2).unflatten(2, (4, 4)), atol=1e-4, rtol=0)
    torch.testing.assert_close(cls, expected[:, 0], atol=1e-4, rtol=0)


@torch.no_grad()
def test_vanilla_attention_is_clip_also_where_patches_and_grids_are_not_square(random_clip):
    source, images = random_clip(image_size=(64, 96), patch_size=(8, 16)), torch.randn(2, 3, 64, 96)
    backbone = backbone_of(source, out_cls=True)
    ((features, cls),) = backbone(images)
    assert features.shape == (2, 64, 8, 6) and backbone.tower.embed(images[:, :, :41, :80])[1] == (5, 5)
    torch.testing.assert_close(cls, open_clips_own(source)(images), atol=1e-5, rtol=0)
    backbone.out_cls = False
    assert torch.equal(backbone(images)[0], features)
    with pytest.raises(BadFileError, match='An image reaches the network with 7 x 50 pixels .* one patch of 8 x 16'):
        backbone(images[..., :7, :50])


@torch.no_grad()
def test_backbones_of_one_source_have_their_own_positions_and_one_copy_of_the_weights(source):
    images, towers, outputs = torch.randn(1, 3, 96, 160), [], []
    for rule in POSITION_RULES:
        tower = backbone_of(source, positions=rule).tower
        tokens = source.visual.positional_embedding, source.visual.grid_size, (6, 10)
        assert torch.equal(tower.fit_positions(*tokens), POSITION_RULES[rule](*tokens))
        assert tower is source.image_tower(rule) and tower.visual is source.visual
        towers.append(tower)
        outputs.append(tower.embed(images)[0])
    assert all((a - b).abs().max() > 1e-3 for i, a in enumerate(outputs) for b in outputs[:i])
