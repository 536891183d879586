_base_ = ['../_base_/protocols/clip_surgery.py', '../_base_/data/voc20.py', '../_base_/pipelines/square_512.py']
model = dict(decode_head=dict(vocabulary='voc20', class_names='PascalVOC20Dataset'))
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
