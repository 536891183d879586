_base_ = ['../data/ade20k.py', '../pipelines/short_336.py']
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
