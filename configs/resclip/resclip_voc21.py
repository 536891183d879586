_base_ = ['../_base_/models/resclip.py', '../_base_/datasets/voc21.py', '../_base_/default_runtime.py']
model = dict(
    backbone=dict(decoder=dict(attention=dict(share=0.3, base=dict(share=0.7, gain=2.2, threshold=0.5)))),
    decode_head=dict(vocabulary='voc21', class_names='PascalVOCDataset', background_index=0),
    test_cfg=dict(mode='whole', whole_resize='input', prob_thd=0.1),
)
