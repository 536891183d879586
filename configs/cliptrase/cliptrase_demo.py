# The values for 14 x 14 patches, which the demo's 16 x 16 come nearest to.
_base_ = ['../_base_/protocols/cliptrase.py', '../_base_/datasets/demo.py']
model = _base_.tiny_clip
model.test_cfg.refine = [dict(type='SegmentVoting', eps=0.7, min_points=3)]
