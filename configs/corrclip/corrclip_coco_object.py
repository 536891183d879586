_base_ = ['../_base_/protocols/corrclip.py', '../_base_/datasets/coco_object.py']
model = dict(
    decode_head=dict(vocabulary='coco_object_corrclip', class_names='COCOObjectDataset', background_index=0),
    test_cfg=dict(prob_thd=0.25),
)
