"""Steps over all windows of an image, second networks, and affinities: parts from outside the package."""

import pytest
import torch
from helpers import sample
from mmseg.registry import MODELS
from torch.nn import functional as F

from mmseg_sclip.errors import ConfigError
from mmseg_sclip.models import Attention, Companion, Features, Propagation, Stitch, Tokens
from mmseg_sclip.models.image.scores import whole
from mmseg_sclip.models.segmentors import score_together

PATCH, CROP, STRIDE = 16, 64, 32
SIZES = [(96, 128), (64, 96)]


def mean_over_windows(patches, places):
    """(windows, ..., h, w): each patch becomes the mean of all windows that see the same place."""
    corners = [(place.rows[0] // PATCH, place.columns[0] // PATCH) for place in places]
    h, w = patches.shape[-2:]
    total = patches.new_zeros(*patches.shape[1:-2], max(t for t, _ in corners) + h, max(s for _, s in corners) + w)
    count = torch.zeros(total.shape[-2:])
    for window, (top, left) in zip(patches, corners, strict=True):
        total[..., top : top + h, left : left + w] += window
        count[top : top + h, left : left + w] += 1
    mean = total / count
    return torch.stack([mean[..., top : top + h, left : left + w] for top, left in corners])


@MODELS.register_module()
class ToyStitch(Stitch):
    """Tokens of overlapping windows are averaged."""

    def forward(self, tokens):
        patches = mean_over_windows(tokens.map, tokens.record.places)
        return Tokens(patches.flatten(2).transpose(1, 2), None, tokens.grid)


@MODELS.register_module()
class ToyPropagation(Propagation):
    """Scores of overlapping windows are averaged."""

    def forward(self, scores, tokens):
        return mean_over_windows(scores, tokens.record.places)


@MODELS.register_module()
class ToyCompanion(Companion):
    """Mean colours, on a grid of 8 pixels."""

    mean, std = (51.0, 102.0, 0.0), (255.0, 255.0, 255.0)

    def __init__(self):
        super().__init__()
        self.calls = 0

    def features(self, images):
        self.calls += 1
        return Features(F.avg_pool2d(images, 8))


@MODELS.register_module()
class ToyColourAttention(Attention):
    """Patches attend where a second network finds them alike."""

    companions = frozenset({'colours'})

    def terms(self, b):
        colours = F.adaptive_avg_pool2d(b.record.companion('colours').map, b.grid).flatten(2).transpose(1, 2)
        logits = -10 * torch.cdist(colours, colours)
        return [F.pad(logits, (b.prefix, 0, b.prefix, 0))[:, None]]


def config_of(clip, attention='CorrelativeSelfAttention', **more):
    config = dict(
        type='SCLIPSegmentor',
        clip=clip,
        backbone=dict(type='CLIPVisionTransformer', decoder=dict(type='LastBlock', attention=dict(type=attention))),
        decode_head=dict(type='TextSimilarityHead', vocabulary=['cat', 'dog', 'tree'], templates='simple'),
        test_cfg=dict(crop_size=(CROP, CROP), stride=(STRIDE, STRIDE), window_batch=2),
    )
    return {**config, **more}


def build(*args, **more):
    return MODELS.build(config_of(*args, **more)).eval()


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(3, *size, generator=generator) for size in SIZES]


def samples():
    return [sample(size) for size in SIZES]


def corners(side):
    return range(0, side - CROP + 1, STRIDE)


@torch.no_grad()
def scores_by_hand(model, image, on_tokens):
    """(Q, H, W): patches of each place averaged over the windows that see it, window by window and patch by patch."""
    height, width = image.shape[1:]
    places = [(top, left) for top in corners(height) for left in corners(width)]
    maps, bank = {}, model.decode_head.encode_vocabulary(image.device)
    for top, left in places:
        tokens = model.encode(image[None, :, top : top + CROP, left : left + CROP])
        maps[top, left] = tokens.map[0] if on_tokens else model.decode_head(tokens)[0]
    seen = {}
    for (top, left), values in maps.items():
        for row in range(CROP // PATCH):
            for column in range(CROP // PATCH):
                seen.setdefault((top + PATCH * row, left + PATCH * column), []).append(values[:, row, column])
    total, count = torch.zeros(3, height, width), torch.zeros(height, width)
    for top, left in places:
        values = torch.empty_like(maps[top, left])
        for row in range(CROP // PATCH):
            for column in range(CROP // PATCH):
                values[:, row, column] = torch.stack(seen[top + PATCH * row, left + PATCH * column]).mean(dim=0)
        if on_tokens:
            values = torch.einsum('dhw,qd->qhw', F.normalize(values, dim=0), bank)
        enlarged = F.interpolate(values[None], (CROP, CROP), mode='bilinear', align_corners=False)[0]
        total[:, top : top + CROP, left : left + CROP] += enlarged
        count[top : top + CROP, left : left + CROP] += 1
    return total / count


@pytest.mark.parametrize('step', ['stitch', 'propagation'])
def test_a_step_works_on_all_windows_of_an_image_and_of_no_other(source, images, step):
    model = build(source, **{step: dict(type=f'Toy{step.capitalize()}')})
    with torch.no_grad():
        scores = model.score(images, samples())
    with pytest.raises(ConfigError, match='sees the windows of an image one by one'):  # as MMSegmentation's loop
        model.slide_inference(images[0][None], [dict(ori_shape=SIZES[0])])
    plain = build(source)
    for one, image in zip(scores, images, strict=True):
        torch.testing.assert_close(whole(one), scores_by_hand(plain, image, step == 'stitch'), atol=1e-5, rtol=0)
    assert (whole(scores[0]) - whole(plain.score(images, samples())[0])).abs().max() > 1e-3


@torch.no_grad()
def test_a_method_with_a_step_changes_nothing_for_the_others_of_a_pass(mini_clip, images):
    both = dict(stitch=dict(type='ToyStitch'), propagation=dict(type='ToyPropagation'))
    configs = dict(plain=config_of(mini_clip), stitched=config_of(mini_clip, **both))
    bundle = MODELS.build(dict(type='MethodBundle', methods=configs)).eval()
    together = score_together(list(bundle.methods), images, samples())
    for config, got in zip(configs.values(), together, strict=True):
        expected = MODELS.build(config).eval().score(images, samples())
        assert all(torch.equal(whole(a), whole(b)) for a, b in zip(expected, got, strict=True))


def test_a_companion_is_asked_once_per_record_with_its_own_mean_and_std(source):
    model = build(source, 'ToyColourAttention', companions=dict(colours=dict(type='ToyCompanion')))
    pixels = torch.randint(0, 256, (2, 3, 64, 64)).float()
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (model.backbone.tower.mean, model.backbone.tower.std))
    images = (pixels - mean) / std
    record = model.backbone.record(images).read_by(model.companions)
    seen = F.avg_pool2d(pixels / 255, 8) - torch.tensor([0.2, 0.4, 0.0]).view(3, 1, 1)
    torch.testing.assert_close(record.companion('colours').map, seen, atol=1e-5, rtol=0)
    assert record.companion('colours') is record.companion('colours')
    with torch.no_grad():
        tokens = model.encode(images)
        model.score(images, [sample((64, 64))] * 2)
    assert model.companions['colours'].calls == 3  # once for each record
    weights = model.backbone.decoder.attention.weights(record.block_input(-1))
    colours = F.avg_pool2d(pixels / 255, 16).flatten(2).transpose(1, 2)  # (2, 16, 3)
    logits = F.pad(-10 * (colours[:, :, None] - colours[:, None]).norm(dim=-1), (1, 0, 1, 0))
    torch.testing.assert_close(weights[:, 0], logits.softmax(dim=-1), atol=1e-4, rtol=0)
    assert tokens.grid == (4, 4)
    assert not any(parameter.requires_grad for parameter in model.companions.parameters())
    with pytest.raises(LookupError, match="no companion 'depth'"):
        record.companion('depth')


@torch.no_grad()
def test_equal_companions_of_a_pass_are_one_network_whatever_they_are_called(mini_clip, images):
    first = config_of(mini_clip, 'ToyColourAttention', companions=dict(colours=dict(type='ToyCompanion')))
    second = dict(first, companions=dict(other=dict(type='ToyCompanion'), colours=dict(type='ToyCompanion')))
    bundle = MODELS.build(dict(type='MethodBundle', methods=dict(a=first, b=second))).eval()
    together = score_together(list(bundle.methods), images, samples())
    networks = {id(network) for method in bundle.methods for network in method.companions.values()}
    assert len(networks) == 1
    alone = MODELS.build(first).eval()
    expected = alone.score(images, samples())
    assert bundle.methods[0].companions['colours'].calls == alone.companions['colours'].calls  # once for both methods
    for scores in together:
        assert all(torch.equal(whole(a), whole(b)) for a, b in zip(expected, scores, strict=True))


@torch.no_grad()
def test_methods_with_a_step_and_without_one_share_the_tower_and_the_companion(mini_clip, images):
    companions = dict(colours=dict(type='ToyCompanion'))
    plain = config_of(mini_clip, 'ToyColourAttention', companions=companions)
    stitched = dict(plain, stitch=dict(type='ToyStitch'))
    bundle = MODELS.build(dict(type='MethodBundle', methods=dict(a=plain, b=stitched, c=stitched))).eval()
    ran = []
    bundle.methods[0].backbone.tower.block(1).register_forward_hook(lambda *_: ran.append(1))
    together = score_together(list(bundle.methods), images, samples())
    batches = (6 + 2) // 2
    assert len(ran) == bundle.methods[0].companions['colours'].calls == batches
    for config, scores in zip((plain, stitched, stitched), together, strict=True):
        expected = MODELS.build(config).eval().score(images, samples())
        assert all(torch.equal(whole(a), whole(b)) for a, b in zip(expected, scores, strict=True))


def test_companions_see_the_colours_whatever_has_normalised_the_images(source):
    """8 bits to the last bit, and but for the digits that official codes lose where CLIP's are thousandths."""
    pixels = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    imagenet = dict(type='CLIPDataPreProcessor', mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
    seen = []
    for preprocessor in (imagenet, dict(type='CLIPDataPreProcessor', exact=True), None):
        companions = dict(colours=dict(type='ToyCompanion'))
        model = build(source, 'ToyColourAttention', companions=companions, data_preprocessor=preprocessor)
        (image,) = model.data_preprocessor(dict(inputs=pixels))['inputs']
        with torch.no_grad():
            seen.append(model.record(image[None]).read_by(model.companions).companion('colours').map)
    expected = F.avg_pool2d(pixels.flip(1) / 255, 8) - torch.tensor([0.2, 0.4, 0.0]).view(3, 1, 1)
    torch.testing.assert_close(seen[0], expected, atol=1e-6, rtol=0)
    assert torch.equal(seen[0], seen[1])
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((122.7709383, 116.7460125, 104.09373615), (68.5005327,) * 3))
    torch.testing.assert_close(seen[2], expected, atol=1e-3 / 255, rtol=0)
    assert not torch.equal(seen[2], expected)
    (image,) = build(source, data_preprocessor=dict(type='CLIPDataPreProcessor', exact=True)).data_preprocessor(
        dict(inputs=pixels)
    )['inputs']
    torch.testing.assert_close(image[0], (pixels[0, 2].float() - mean[0]) / std[0], atol=1e-6, rtol=0)  # not 122.771


def test_what_a_part_cannot_get_is_said_when_the_model_is_built(source):
    with pytest.raises(ConfigError, match="LastBlock reads the companion 'colours', but model.companions names none"):
        build(source, 'ToyColourAttention')
    head = dict(vocabulary=['cat', 'dog'], templates='simple')
    with pytest.raises(ConfigError, match='EarlyLayerFusionHead reads LayerTokens, but the decoder LastBlock gives'):
        build(source, decode_head=dict(type='EarlyLayerFusionHead', **head))
    attention = dict(type='SelfCalibratedAttention', affinity_block=2)
    decoder = dict(type='SelfCalibratedDecoder', attention=attention, smoothing_block=1, levels=(1, 2))
    backbone = dict(type='CLIPVisionTransformer', decoder=decoder)
    with pytest.raises(ConfigError, match='ClassTokenHead reads the class token, which the decoder SelfCalibrated'):
        build(source, backbone=backbone, decode_head=dict(type='ClassTokenHead', **head))
