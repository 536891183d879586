# OVSegmentor's own list has a background class, which this dataset does not have: every pixel gets a class.
_base_ = ['../_base_/protocols/ovsegmentor.py', '../_base_/data/coco_stuff164k.py', '../_base_/pipelines/short_448.py']
model = dict(decode_head=dict(vocabulary='coco_stuff_names', class_names='COCOStuffDataset'))
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
