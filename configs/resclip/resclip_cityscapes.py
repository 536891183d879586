_base_ = ['../_base_/models/resclip.py', '../_base_/datasets/cityscapes.py', '../_base_/default_runtime.py']
model = dict(
    backbone=dict(decoder=dict(attention=dict(share=0.2, base=dict(share=0.6, gain=2.1, threshold=0.1)))),
    decode_head=dict(vocabulary='cityscapes', class_names='CityscapesDataset'),
)
