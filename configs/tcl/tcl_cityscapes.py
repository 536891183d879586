_base_ = ['../_base_/protocols/tcl.py', '../_base_/data/cityscapes.py', '../_base_/pipelines/short_448.py']
model = dict(decode_head=dict(vocabulary='cityscapes_names', class_names='CityscapesDataset'))
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
