# ResCLIP on SCLIP, whose last block keeps its residual and its feed-forward part.
_base_ = './resclip.py'
model = dict(
    backbone=dict(
        decoder=dict(
            attention=dict(base=dict(base=dict(_delete_=True, type='CorrelativeSelfAttention'))),
            residual=True,
            ffn=True,
        )
    )
)
