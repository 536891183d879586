_base_ = ['../_base_/protocols/naclip.py', '../_base_/datasets/voc20.py']
model = dict(
    decode_head=dict(vocabulary='voc20', class_names='PascalVOC20Dataset'),
    test_cfg=dict(mode='whole', whole_resize='input'),
)
