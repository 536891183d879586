_base_ = ['../_base_/protocols/cliper.py', '../_base_/data/ade20k.py', '../_base_/pipelines/patches_336.py']
model = dict(decode_head=dict(score_thd=0.3, vocabulary='ade20k_cliper', class_names='ADE20KDataset'))
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
