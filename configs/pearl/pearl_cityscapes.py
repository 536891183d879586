_base_ = ['../_base_/models/pearl.py', '../_base_/datasets/cityscapes.py', '../_base_/default_runtime.py']
model = dict(
    backbone=dict(decoder=dict(attention=dict(alpha=0.3))),
    decode_head=dict(vocabulary='cityscapes', class_names='CityscapesDataset'),
    test_cfg=dict(refine=[dict(type='TextLabelPropagation', grid=224)]),
)
