# The paper has no COCO-Stuff10k.
_base_ = ['../_base_/protocols/tcl.py', '../_base_/data/coco_stuff10k.py', '../_base_/pipelines/short_448.py']
model = dict(decode_head=dict(vocabulary='coco_stuff_names', class_names='COCOStuffDataset'))
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
