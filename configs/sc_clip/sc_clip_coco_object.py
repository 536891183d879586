_base_ = ['../_base_/models/sc_clip.py', '../_base_/datasets/coco_object.py', '../_base_/default_runtime.py']
model = dict(
    decode_head=dict(vocabulary='coco_object', class_names='COCOObjectDataset', background_index=0),
    test_cfg=dict(logit_scale=55, prob_thd=0.35),
)
