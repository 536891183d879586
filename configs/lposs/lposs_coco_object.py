_base_ = [
    '../_base_/models/lposs.py',
    '../_base_/data/coco_object.py',
    '../_base_/pipelines/short_448.py',
    '../_base_/default_runtime.py',
]
model = dict(
    decode_head=dict(vocabulary='coco_object_lposs', class_names='COCOObjectDataset', background_index=0),
    test_cfg=dict(refine=[dict(type='SynonymMaximum')]),
)
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
