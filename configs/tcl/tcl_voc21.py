_base_ = ['../_base_/protocols/tcl.py', '../_base_/data/voc21.py', '../_base_/pipelines/short_448.py']
model = dict(decode_head=dict(vocabulary='voc21_names', class_names='PascalVOCDataset', background_index=0))
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
