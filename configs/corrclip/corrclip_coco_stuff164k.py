_base_ = ['../_base_/protocols/corrclip.py', '../_base_/datasets/coco_stuff164k_336.py']
model = dict(
    decode_head=dict(vocabulary='coco_stuff_people', class_names='COCOStuffDataset'),
)
