_base_ = ['../_base_/protocols/cliper.py', '../_base_/data/coco_object.py', '../_base_/pipelines/patches_336.py']
model = dict(
    decode_head=dict(
        scale=50,
        score_thd=0.3,
        templates='openai_imagenet',
        vocabulary='coco_object_cliper',
        class_names='COCOObjectDataset',
        background_index=0,
    ),
    test_cfg=dict(prob_thd=0.3),
)
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
