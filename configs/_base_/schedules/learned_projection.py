# Training of the learned projection (SCLIP's Table 2). The paper gives only the number of images, 64: the rest is ours,
# tried on the demo (where the matrix is smaller, and the rate 3e-3); the rate for the photographs is not tuned.
optim_wrapper = dict(
    type='OptimWrapper',
    # Decay would pull the matrix to zero, which no longer attends to likeness.
    optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.0),
)
param_scheduler = [dict(type='PolyLR', power=1.0, eta_min=0.0, begin=0, end=400, by_epoch=False)]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=400)
train_dataloader = dict(batch_size=8, num_workers=2, sampler=dict(type='InfiniteSampler', shuffle=True))
