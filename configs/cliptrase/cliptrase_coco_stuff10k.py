# The paper has no COCO-Stuff10k: the values are those of COCO-Stuff164k.
_base_ = ['../_base_/protocols/cliptrase.py', '../_base_/data/coco_stuff10k.py', '../_base_/pipelines/centre_336.py']
model = dict(decode_head=dict(vocabulary='coco_stuff_cliptrase', class_names='COCOStuffDataset'))
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
