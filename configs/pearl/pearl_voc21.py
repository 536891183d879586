_base_ = ['../_base_/models/pearl.py', '../_base_/datasets/voc21.py', '../_base_/default_runtime.py']
model = dict(
    decode_head=dict(vocabulary='voc21', class_names='PascalVOCDataset', background_index=0),
    test_cfg=dict(mode='whole', prob_thd=0.1),
)
