_base_ = ['../_base_/models/sfp.py', '../_base_/datasets/voc21.py', '../_base_/default_runtime.py']
model = dict(
    decode_head=dict(vocabulary='voc21_people', class_names='PascalVOCDataset', background_index=0),
    test_cfg=dict(logit_scale=50, prob_thd=0.15, area_thd=0.1),
)
