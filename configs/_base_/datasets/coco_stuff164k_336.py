# COCO-Stuff164k with the short side of most methods; SCLIP's is 448.
_base_ = ['../data/coco_stuff164k.py', '../pipelines/short_336.py']
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
