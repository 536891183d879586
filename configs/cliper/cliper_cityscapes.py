_base_ = ['../_base_/protocols/cliper.py', '../_base_/data/cityscapes.py', '../_base_/pipelines/patches_560.py']
model = dict(
    decode_head=dict(
        attention_thd=0.35, templates='openai_imagenet', vocabulary='cityscapes', class_names='CityscapesDataset'
    )
)
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
