# The values for 21 x 21 patches, which the demo's 24 x 24 come nearest to.
_base_ = ['../_base_/protocols/cliptrase.py', '../_base_/datasets/demo.py']
model = _base_.tiny_clip
