_base_ = ['../_base_/protocols/freecp_sclip.py', '../_base_/data/ade20k.py', '../_base_/pipelines/short_448.py']
model = dict(decode_head=dict(redundancy_thd=0.05, vocabulary='ade20k', class_names='ADE20KDataset'))
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
