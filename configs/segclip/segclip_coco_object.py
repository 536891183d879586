_base_ = ['../_base_/protocols/segclip.py', '../_base_/data/coco_object.py', '../_base_/pipelines/short_224.py']
model = dict(
    decode_head=dict(
        vocabulary='coco_object_plain', class_names='COCOObjectDataset', background_index=0, bg_thresh=0.65
    )
)
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
