# The paper has no COCO-Stuff10k: the values are those of COCO-Stuff164k.
_base_ = ['../_base_/protocols/freecp_sclip.py', '../_base_/data/coco_stuff10k.py', '../_base_/pipelines/short_448.py']
model = dict(decode_head=dict(redundancy_thd=0.05, vocabulary='coco_stuff', class_names='COCOStuffDataset'))
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
