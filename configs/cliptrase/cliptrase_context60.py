_base_ = ['../_base_/protocols/cliptrase.py', '../_base_/data/context60.py', '../_base_/pipelines/centre_336.py']
model = dict(decode_head=dict(vocabulary='context60_cliptrase', class_names='PascalContextDataset', background_index=0))
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
