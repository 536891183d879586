# The share of the paper's middle blocks: of five the second and the third.
_base_ = ['../_base_/models/resclip_clearclip.py', '../_base_/datasets/demo.py', '../_base_/default_runtime.py']
model = dict(**_base_.tiny_clip, backbone=dict(decoder=dict(attention=dict(blocks=(2, 3)))))
