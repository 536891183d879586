# The paper has no Cityscapes: sizes and values are those of its other datasets, the words are SCLIP's.
_base_ = ['../_base_/protocols/cliptrase.py', '../_base_/data/cityscapes.py', '../_base_/pipelines/centre_336.py']
model = dict(decode_head=dict(vocabulary='cityscapes', class_names='CityscapesDataset'))
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
