_base_ = ['../_base_/protocols/tcl.py', '../_base_/data/context60.py', '../_base_/pipelines/short_448.py']
model = dict(decode_head=dict(vocabulary='context60', class_names='PascalContextDataset', background_index=0))
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
