_base_ = ['../_base_/protocols/clip_surgery.py', '../_base_/data/coco_object.py', '../_base_/pipelines/square_512.py']
model = dict(decode_head=dict(vocabulary='coco_object', class_names='COCOObjectDataset', background_index=0))
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
