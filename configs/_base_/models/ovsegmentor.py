# OVSegmentor (CVPR 2023) with ViT-B and BERT-base: GroupViT's network with one step of grouping, and its rule of
# painting. Both towers come from its own file; its tokenizer is that of distilbert-base-uncased.
_base_ = './sclip.py'
model = dict(
    clip=dict(_delete_=True, type='OVSegmentorSource', pretrained='released'),
    backbone=dict(positions='size', decoder=dict(_delete_=True, type='GroupDecoder')),
    decode_head=dict(type='GroupPaintingHead', templates='simple', bg_thresh=0.95, top_classes=5),
    test_cfg=dict(logit_scale=None),
)
