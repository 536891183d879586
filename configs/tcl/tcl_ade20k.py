# The official code asks for 'bed ', with a space behind it, so that its plural is 'bed s'; here it is 'beds'.
_base_ = ['../_base_/protocols/tcl.py', '../_base_/data/ade20k.py', '../_base_/pipelines/short_448.py']
model = dict(decode_head=dict(vocabulary='ade20k_names', class_names='ADE20KDataset'))
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
