_base_ = ['../_base_/protocols/cliptrase.py', '../_base_/data/voc20.py', '../_base_/pipelines/centre_336.py']
model = dict(decode_head=dict(type='ClassTokenHead', vocabulary='voc20_cliptrase', class_names='PascalVOC20Dataset'))
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
