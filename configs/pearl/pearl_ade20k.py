_base_ = ['../_base_/models/pearl.py', '../_base_/datasets/ade20k.py', '../_base_/default_runtime.py']
model = dict(
    backbone=dict(decoder=dict(attention=dict(alpha=0.3))),
    decode_head=dict(vocabulary='ade20k', class_names='ADE20KDataset'),
)
