_base_ = ['../_base_/protocols/naclip.py', '../_base_/datasets/voc21.py']
model = dict(
    decode_head=dict(vocabulary='voc21', class_names='PascalVOCDataset', background_index=0),
    test_cfg=dict(mode='whole', whole_resize='input', prob_thd=0.1),
)
