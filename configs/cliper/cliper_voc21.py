_base_ = ['../_base_/protocols/cliper.py', '../_base_/data/voc21.py', '../_base_/pipelines/patches_336.py']
model = dict(
    decode_head=dict(
        attention_thd=0.1,
        score_thd=0.7,
        min_max=True,
        vocabulary='voc21_cliper',
        class_names='PascalVOCDataset',
        background_index=0,
    ),
    test_cfg=dict(prob_thd=0.6),
)
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
