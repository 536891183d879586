_base_ = ['../_base_/protocols/segclip.py', '../_base_/data/voc20.py', '../_base_/pipelines/short_224.py']
model = dict(decode_head=dict(vocabulary='voc20_peers', class_names='PascalVOC20Dataset'))
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
