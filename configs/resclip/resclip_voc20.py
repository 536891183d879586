_base_ = ['../_base_/models/resclip.py', '../_base_/datasets/voc20.py', '../_base_/default_runtime.py']
model = dict(
    backbone=dict(decoder=dict(attention=dict(share=0.6, base=dict(share=0.6, gain=2.1, threshold=0.1)))),
    decode_head=dict(vocabulary='voc20', class_names='PascalVOC20Dataset'),
    test_cfg=dict(mode='whole', whole_resize='input'),
)
