_base_ = ['../_base_/protocols/proxyclip.py', '../_base_/datasets/coco_object.py']
model = dict(
    decode_head=dict(vocabulary='coco_object_proxyclip', class_names='COCOObjectDataset', background_index=0),
    test_cfg=dict(prob_thd=0.25),
)
