_base_ = [
    '../_base_/models/trident.py',
    '../_base_/data/coco_object.py',
    '../_base_/pipelines/trident_448.py',
    '../_base_/default_runtime.py',
]
model = dict(
    decode_head=dict(vocabulary='coco_object_proxyclip', class_names='COCOObjectDataset', background_index=0),
    test_cfg=dict(prob_thd=0.25),
)
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
