_base_ = ['../_base_/protocols/gem.py', '../_base_/data/coco_object.py', '../_base_/pipelines/square_448.py']
model = dict(
    decode_head=dict(vocabulary='coco_object_plain', class_names='COCOObjectDataset', background_index=0),
    test_cfg=dict(logit_scale=100, prob_thd=0.85, refine=[dict(type='ForegroundOnly')]),
)
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
