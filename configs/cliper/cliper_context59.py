_base_ = ['../_base_/protocols/cliper.py', '../_base_/data/context59.py', '../_base_/pipelines/patches_336.py']
model = dict(decode_head=dict(score_thd=0.3, vocabulary='context59_cliper', class_names='PascalContextDataset59'))
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
