_base_ = ['../data/voc20.py', '../pipelines/short_336.py']
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
