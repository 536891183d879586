# The paper's text gives a short side of 336 for COCO-Stuff; its code, and so our default, has 448.
_base_ = '../sclip_coco_stuff164k.py'
test_pipeline = _base_.test_pipeline
test_pipeline[1].update(scale=(2048, 336))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
