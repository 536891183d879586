_base_ = ['../_base_/protocols/segclip.py', '../_base_/data/context59.py', '../_base_/pipelines/short_224.py']
model = dict(decode_head=dict(vocabulary='context59_peers', class_names='PascalContextDataset59'))
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
