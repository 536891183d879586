_base_ = ['../data/context60.py', '../pipelines/short_336.py']
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
