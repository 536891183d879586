_base_ = ['../_base_/protocols/reco.py', '../_base_/data/cityscapes.py', '../_base_/pipelines/centre_320.py']
model = dict(decode_head=dict(vocabulary='cityscapes', class_names='CityscapesDataset'))
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
