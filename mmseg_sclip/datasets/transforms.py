"""Pre-processing of methods whose official evaluation does more than a `Resize`."""

import numpy as np
from mmcv.transforms import BaseTransform, CenterCrop, Resize
from mmseg.registry import TRANSFORMS

from ..checks import check_whole
from ..images import ORIGINAL, KeptImage


@TRANSFORMS.register_module()
class ResizeToPatches(BaseTransform):
    """Resize so that the short side has a given length, and then each side to the nearest number of whole patches.

    The ratio of the sides may change a little (CLIPer, ICCV 2025).

    Args:
        short_side: In pixels.
        patch_size: Side of a patch in pixels, 16 or 14 for CLIP.
        **kwargs: Of MMCV's `Resize`: `backend` and `interpolation`.
    """

    def __init__(self, short_side: int, patch_size: int = 16, **kwargs) -> None:
        check_whole('ResizeToPatches.short_side', short_side, least=1)
        check_whole('ResizeToPatches.patch_size', patch_size, least=1)
        self.short_side = short_side
        self.patch_size = patch_size
        self.kwargs = kwargs

    def transform(self, results: dict) -> dict:
        """Resize `img`, and `gt_seg_map` where there is one."""
        height, width = results['img'].shape[:2]
        in_patches = self.short_side / min(height, width) / self.patch_size
        scale = tuple(max(1, int(side * in_patches + 0.5)) * self.patch_size for side in (width, height))
        return Resize(scale, **self.kwargs).transform(results)


@TRANSFORMS.register_module()
class GrowToPatches(BaseTransform):
    """Enlarge an image whose sides are not whole patches until they are.

    The long side becomes the next multiple of the patch, the other one follows in proportion and then becomes the next
    multiple, and neither stays below `least`; so the ratio of the sides may change. Pixels become float32, which
    nothing rounds. An image of whole patches stays as it is, however small (Trident, ICCV 2025).

    Args:
        patch_size: Side of a patch in pixels, 16 or 14 for CLIP.
        least: In pixels; Trident's is the side of its windows.
    """

    def __init__(self, patch_size: int = 16, least: int = 336) -> None:
        check_whole('GrowToPatches.patch_size', patch_size, least=1)
        check_whole('GrowToPatches.least', least, least=1)
        self.patch_size = patch_size
        self.least = least

    def transform(self, results: dict) -> dict:
        """Enlarge `img`, and `gt_seg_map` where there is one."""
        sides, patch = results['img'].shape[:2], self.patch_size
        if not any(side % patch for side in sides):
            return results
        long = max(sides)
        grown = -(-long // patch) * patch
        height, width = (max(-(-side * grown // (long * patch)) * patch, self.least) for side in sides)
        results['img'] = results['img'].astype(np.float32)
        return Resize((width, height)).transform(results)


@TRANSFORMS.register_module()
class KeepOriginal(BaseTransform):
    """Keep the image as it was loaded, for parts that look at it beside the network's input, such as Trident's.

    It stands behind the steps that read the file, and `PackSegInputs` has 'original' among its `meta_keys`.
    """

    def transform(self, results: dict) -> dict:
        """Keep `img` as `original`."""
        results[ORIGINAL] = KeptImage(results['img'])
        return results


@TRANSFORMS.register_module()
class ScoreCentre(CenterCrop):
    """Cut the middle out of image and ground truth, and have predictions scored there at its size.

    The official evaluation of CLIPtrase (ECCV 2024) does this. The step stands after `LoadAnnotations` and `Resize`, so
    that the ground truth is resized too. Photographs that belong to no dataset are left whole. Arguments are those of
    MMCV's `CenterCrop`.
    """

    def transform(self, results: dict) -> dict:
        """Cut `img` and `gt_seg_map`; `ori_shape`, to which predictions are brought, becomes their size."""
        if 'sample_idx' in results:
            results = super().transform(results)
            results['ori_shape'] = results['img_shape']
        return results
