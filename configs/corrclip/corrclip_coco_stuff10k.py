# The paper has no COCO-Stuff10k: the values are those of COCO-Stuff164k.
_base_ = ['../_base_/protocols/corrclip.py', '../_base_/datasets/coco_stuff10k.py']
model = dict(
    decode_head=dict(vocabulary='coco_stuff_people', class_names='COCOStuffDataset'),
)
