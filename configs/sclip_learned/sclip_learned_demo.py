# SCLIP's Table 2: one matrix W_r, learned on 64 scenes that are painted for this purpose only.
# Train it with tools/train.py, then test with the checkpoint; without one W_r is at its start.
# The settings were chosen for the scenes of an earlier demo, and were not tuned again.
_base_ = ['../sclip_demo.py', '../_base_/schedules/learned_projection.py']
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
    dict(type='RandomCrop', crop_size=(96, 96)),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    num_workers=0,
    dataset=dict(
        type='PaintedScenesDataset',
        purpose='projection',
        seed=0,
        count=64,
        size=192,
        max_regions=6,
        indices=64,
        pipeline=train_pipeline,
    ),
)
optim_wrapper = dict(optimizer=dict(lr=3e-3))
