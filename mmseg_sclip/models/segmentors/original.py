"""From the network's input back to the image as it was loaded."""

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from ...utils.checks import check_choice

_FLIPS = dict(horizontal=-1, vertical=-2)  # the axis of (K, H, W)


def to_original(
    scores: Tensor,
    input_size: Sequence[int],
    meta: Mapping,
    test_cfg: Mapping,
    enlarge: Callable[[Tensor, Sequence[int]], Tensor],
) -> Tensor:
    """Undo padding and flips, as MMSeg's `postprocess_result` does, and resize to `ori_shape`.

    Args:
        scores: (K, H, W) at the network's input size, or (K, h, w) at patches in whole mode.
        input_size: (height, width) of the network's input, padding included.
        meta: Of the image: `ori_shape`, and what was padded and flipped.
        test_cfg: In whole mode patches go straight to the original size, unless padding stands between or
            `whole_resize` is 'input'.
        enlarge: Resizes (1, K, h, w) to (height, width).

    Raises:
        ValueError: The image was flipped in an unknown direction.
    """
    left, right, top, bottom = meta.get('img_padding_size', meta.get('padding_size', (0, 0, 0, 0)))
    padded = any((left, right, top, bottom))
    if test_cfg['mode'] == 'whole' and (padded or test_cfg['whole_resize'] == 'input'):
        scores = enlarge(scores[None], input_size)[0]
    if padded:
        scores = scores[:, top : scores.shape[1] - bottom, left : scores.shape[2] - right]
    if meta.get('flip'):
        check_choice('flip_direction', meta.get('flip_direction'), _FLIPS)
        scores = scores.flip(_FLIPS[meta['flip_direction']])
    return enlarge(scores[None], meta.get('ori_shape', input_size)[:2])[0]
