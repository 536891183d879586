# SCLIP's Table 2: one matrix W_r, learned on the first 64 training images (in the order of train.txt).
# Train it with tools/train.py, then test with the checkpoint; without one W_r is at its start.
_base_ = ['../sclip_context59.py', '../_base_/schedules/learned_projection.py']
model = dict(
    # gain=2: the map's rows sum to 2, as SCLIP's do; the residual beside them weighs the same.
    backbone=dict(
        decoder=dict(attention=dict(projections=[dict(type='LearnedProjection', init='q')], reduction='sum', gain=2))
    ),
    train_cfg=dict(logit_scale=40),
)
train_pipeline = [
    *_base_.test_pipeline[:2],
    dict(type='LoadLabelMap'),
    # In front of Resize, unlike in the test: the labels of a crop are at the crop's size.
    dict(type='Resize', scale=(2048, 336), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(224, 224)),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    dataset=dict(
        type=_base_.dataset_type,
        data_root=_base_.data_root,
        data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClassContext'),
        ann_file='ImageSets/SegmentationContext/train.txt',
        reduce_zero_label=True,
        indices=64,
        pipeline=train_pipeline,
    ),
)
