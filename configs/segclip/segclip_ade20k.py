_base_ = ['../_base_/protocols/segclip.py', '../_base_/data/ade20k.py', '../_base_/pipelines/short_224.py']
model = dict(decode_head=dict(vocabulary='ade20k_names', class_names='ADE20KDataset'))
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
