# Half of the blocks, as in the paper: of five about three.
_base_ = ['../_base_/protocols/gem.py', '../_base_/datasets/demo.py']
model = dict(**_base_.tiny_clip, backbone=dict(decoder=dict(blocks=3)))
