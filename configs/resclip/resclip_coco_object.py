_base_ = ['../_base_/models/resclip.py', '../_base_/datasets/coco_object.py', '../_base_/default_runtime.py']
model = dict(
    backbone=dict(decoder=dict(attention=dict(share=0.4, base=dict(share=0.7, gain=1.8, threshold=0.11)))),
    decode_head=dict(vocabulary='coco_object', class_names='COCOObjectDataset', background_index=0),
    test_cfg=dict(prob_thd=0.1),
)
