# ResCLIP on ClearCLIP.
_base_ = './resclip.py'
model = dict(
    backbone=dict(
        decoder=dict(
            attention=dict(base=dict(base=dict(_delete_=True, type='CorrelativeSelfAttention', projections='q')))
        )
    )
)
