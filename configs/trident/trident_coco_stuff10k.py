# The paper has no COCO-Stuff10k: the values are those of COCO-Stuff164k.
_base_ = [
    '../_base_/models/trident.py',
    '../_base_/data/coco_stuff10k.py',
    '../_base_/pipelines/trident_448.py',
    '../_base_/default_runtime.py',
]
model = dict(decode_head=dict(vocabulary='coco_stuff', class_names='COCOStuffDataset'))
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
