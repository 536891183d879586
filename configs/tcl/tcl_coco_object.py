_base_ = ['../_base_/protocols/tcl.py', '../_base_/data/coco_object.py', '../_base_/pipelines/short_448.py']
model = dict(decode_head=dict(vocabulary='coco_object_plain', class_names='COCOObjectDataset', background_index=0))
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
