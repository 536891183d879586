_base_ = ['../data/coco_stuff164k.py', '../pipelines/short_448.py']
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
