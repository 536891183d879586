# ClearCLIP (ECCV 2024): queries attend to queries; the last block has no residual and no feed-forward part.
_base_ = './sclip.py'
model = dict(backbone=dict(decoder=dict(attention=dict(projections='q'), residual=False, ffn=False)))
