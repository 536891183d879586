# A filter bank stands in for DINO, and regions of one colour for those of SAM 2; neither has weights. The tiny CLIP has
# five blocks, of which the third is in the middle.
_base_ = ['../_base_/models/corrclip.py', '../_base_/datasets/demo.py', '../_base_/default_runtime.py']
_base_.tiny_clip['test_cfg']['window_multiple'] = 8
model = dict(
    **_base_.tiny_clip,
    companions=dict(
        _delete_=True,
        dino=dict(type='FilterBank', patch_size=4),
        regions=dict(type='ColourRegions'),
    ),
    backbone=dict(decoder=dict(levels=(3, 3))),
)
