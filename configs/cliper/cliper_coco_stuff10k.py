# The paper has no COCO-Stuff10k: the values are those of COCO-Stuff164k.
_base_ = ['../_base_/protocols/cliper.py', '../_base_/data/coco_stuff10k.py', '../_base_/pipelines/patches_336.py']
model = dict(decode_head=dict(scale=50, score_thd=0.1, vocabulary='coco_stuff', class_names='COCOStuffDataset'))
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
