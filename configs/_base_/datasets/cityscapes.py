_base_ = ['../data/cityscapes.py', '../pipelines/short_560.py']
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
