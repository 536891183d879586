_base_ = ['../_base_/protocols/freecp_sclip.py', '../_base_/data/voc21.py', '../_base_/pipelines/short_448.py']
model = dict(
    decode_head=dict(redundancy_thd=0.15, vocabulary='voc21_merged', class_names='PascalVOCDataset', background_index=0)
)
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
