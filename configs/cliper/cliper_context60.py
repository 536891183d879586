_base_ = ['../_base_/protocols/cliper.py', '../_base_/data/context60.py', '../_base_/pipelines/patches_336.py']
model = dict(
    decode_head=dict(
        score_thd=0.45, vocabulary='context60_cliper', class_names='PascalContextDataset', background_index=0
    ),
    test_cfg=dict(prob_thd=0.45),
)
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
