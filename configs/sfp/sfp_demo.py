# The paper's blocks 9, 4 and 4 to 10 of 12, in a tower of five; 3 of 64 patches are the share of 10 of 196.
_base_ = ['../_base_/models/sfp.py', '../_base_/datasets/demo.py', '../_base_/default_runtime.py']
model = dict(
    **_base_.tiny_clip,
    backbone=dict(
        decoder=dict(attention=dict(detector=dict(count=3), affinity_block=3), smoothing_block=1, levels=(1, 3))
    ),
)
