_base_ = ['../_base_/protocols/cliper.py', '../_base_/data/voc20.py', '../_base_/pipelines/patches_336.py']
model = dict(decode_head=dict(attention_thd=0.1, vocabulary='voc20_cliper', class_names='PascalVOC20Dataset'))
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
