_base_ = ['../_base_/protocols/freecp_sclip.py', '../_base_/data/voc20.py', '../_base_/pipelines/short_448.py']
model = dict(decode_head=dict(redundancy_thd=0.15, vocabulary='voc20_merged', class_names='PascalVOC20Dataset'))
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
