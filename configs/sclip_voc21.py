_base_ = ['_base_/models/sclip.py', '_base_/datasets/voc21.py', '_base_/default_runtime.py']
model = dict(
    decode_head=dict(vocabulary='voc21', class_names='PascalVOCDataset', background_index=0),
    test_cfg=dict(logit_scale=65, prob_thd=0.1, area_thd=0.1),
)
