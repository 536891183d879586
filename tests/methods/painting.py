"""What the tests of GroupViT, OVSegmentor and SegCLIP share: networks that paint groups, beside the goldens."""

import mmcv
import numpy as np
import torch
from helpers import CONFIGS, sample
from mmengine.config import Config
from mmseg.registry import MODELS
from torch.nn import functional as F

SEVEN = ['cat', 'dog', 'bird', 'tree', 'house', 'car', 'sky']  # a phrase for each row of the goldens' text
FIVE = ['aeroplane', 'cat', 'diningtable', 'person', 'tvmonitor']


def build(name, clip, text, background=None, **test_cfg):
    """The public model of a peer with these towers and seven classes, whose vectors are the rows of `text`.

    Args:
        name: Such as 'groupvit'.
        clip: Its `model.clip`, or a source.
        text: (7, D).
        background: The threshold of a background class in front of the seven; None for none.
        **test_cfg: More settings.
    """
    model = Config.fromfile(CONFIGS / '_base_' / 'models' / f'{name}.py').model
    index = None if background is None else 0
    words = SEVEN if background is None else ['background', *SEVEN]
    model.decode_head.update(vocabulary=words, background_index=index)
    if background is not None:
        model.decode_head.bg_thresh = background
        text = np.concatenate([text[:1], text])  # the row of the background is not looked at
    model.test_cfg.update(test_cfg)
    built = MODELS.build({**model, 'clip': clip}).eval()
    built.decode_head.text_bank = torch.from_numpy(text)
    return built


def pixels(model, image):
    """A picture (H, W, 3) in BGR as the model wants it."""
    data = dict(inputs=[torch.from_numpy(image.transpose(2, 0, 1).copy())], data_samples=[sample(image.shape[:2])])
    return model.data_preprocessor(data, False)['inputs'][0]


def window(model, recipe, size):
    """The goldens' image of that size."""
    return pixels(model, recipe.image(sum(size), *size))[None]


def predicted(model, recipe, original, short):
    """Labels (H, W) and every 16th class score of the goldens' picture of that size, resized to a short side."""
    image = mmcv.imrescale(recipe.image(original[0], *original), (2048, short))
    model.test_cfg.keep_scores = True
    with torch.no_grad():
        (result,) = model.predict([pixels(model, image)], [sample(original)])
    return result.pred_sem_seg.data[0].numpy(), result.seg_logits.data[:, 7::16, 7::16].numpy()


def check_prediction(found, goldens, key):
    """Labels and scores of `predicted` are those of the official code."""
    labels, scores = found
    assert (np.abs(scores - goldens[f'{key}/score']) < 2e-4).mean() > 0.999
    assert (labels == goldens[f'{key}/pred']).mean() > 0.9998


@torch.no_grad()
def check_painting(model, goldens, name, size, thresholds, tokens):
    """Tokens, maps, scores and labels of one window are those of the official code.

    Args:
        model: Without a background, of the goldens' text.
        goldens: By key.
        name: Such as 'groupvit'.
        size: (height, width) of the window.
        thresholds: Those of the background that the goldens have.
        tokens: Of the window.
    """

    def golden(key):
        return goldens[f'{name}/{key}/{size[0]}x{size[1]}']

    head = model.decode_head
    np.testing.assert_allclose(tokens.groups[0], golden('image_feat'), atol=5e-5)
    np.testing.assert_allclose(tokens.image[0], golden('image_x'), atol=5e-5)
    maps = F.interpolate(tokens.maps, size, mode='bilinear')[0, :, 7::16, 7::16]
    np.testing.assert_allclose(maps, golden('group_map'), atol=2e-5)
    assert (tokens.owners(size)[0].numpy() == golden('group_argmax')).mean() > 0.9998
    scale = min(head.text_encoder.logit_scale, 100)
    affinity = scale * F.normalize(tokens.groups[0], dim=-1) @ head.text_bank.T
    np.testing.assert_allclose(affinity, golden('affinity'), atol=1e-4)
    scores = head.group_scores(tokens)[0]
    np.testing.assert_allclose(scores, golden('score'), atol=2e-5)
    np.testing.assert_array_equal(scores.amax(dim=0) > 0, golden('top5'))
    assert (head(tokens)[0].argmax(dim=0).numpy() == golden('pred_nobg')).mean() > 0.9998
    for threshold in thresholds:
        other = model.with_vocabulary(['background', *SEVEN], background_index=0)
        other.decode_head.text_bank = torch.cat([head.text_bank[:1], head.text_bank])
        other.decode_head.bg_thresh = threshold
        painted = other.decode_head(tokens)[0]
        assert (painted.argmax(dim=0).numpy() == golden(f'pred_bg{threshold}')).mean() > 0.9998
        if name == 'groupvit':
            assert (painted[0].numpy() == golden(f'bgmap_bg{threshold}')).mean() > 0.9998


@torch.no_grad()
def check_stages(model, recipe, goldens, name, size):
    """What the stages of GroupViT's network give is what the official code gives; returns the tokens."""
    vision, seen = model.backbone.tower.network.vision_model, []
    hooks = [
        part.register_forward_hook(lambda *args: seen.append(args[-1]))
        for part in (*vision.encoder.stages, vision.layernorm)
    ]
    try:
        tokens = model.encode(window(model, recipe, size))
    finally:
        for hook in hooks:
            hook.remove()
    *stages, feat = seen
    grouping = [stage for stage in stages if stage[1] is not None]
    for number, (x, groups, soft) in enumerate(grouping):
        last = '' if name == 'ovsegmentor' else number
        sampled = soft[0, :, ::5] if number == 0 else soft[0]
        for key, value, atol in (
            (f'stage{number}_x', x[0], 5e-5),
            (f'stage{number}_group', groups[0], 5e-5),
            (f'soft{last}', sampled, 2e-5),
        ):
            np.testing.assert_allclose(value, goldens[f'{name}/{key}/{size[0]}x{size[1]}'], atol=atol)
        np.testing.assert_array_equal(soft[0].argmax(dim=0), goldens[f'{name}/assign{last}/{size[0]}x{size[1]}'])
    np.testing.assert_allclose(feat[0], goldens[f'{name}/feat/{size[0]}x{size[1]}'], atol=5e-5)
    np.testing.assert_allclose(tokens.record[0][0, ::5], goldens[f'{name}/embed/{size[0]}x{size[1]}'], atol=5e-5)
    return tokens
