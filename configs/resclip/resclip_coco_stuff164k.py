_base_ = ['../_base_/models/resclip.py', '../_base_/datasets/coco_stuff164k_336.py', '../_base_/default_runtime.py']
model = dict(
    backbone=dict(decoder=dict(attention=dict(share=0.4, base=dict(share=0.7, gain=1.8, threshold=0.11)))),
    decode_head=dict(vocabulary='coco_stuff', class_names='COCOStuffDataset'),
)
