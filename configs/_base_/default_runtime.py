default_scope = 'mmseg'
custom_imports = dict(imports=['mmseg_sclip'], allow_failed_imports=False)
env_cfg = dict(
    cudnn_benchmark=False, mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0), dist_cfg=dict(backend='nccl')
)
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='SegLocalVisualizer', vis_backends=vis_backends, name='visualizer')
tta_model = dict(type='SCLIPTTAModel')  # for tools/test.py --tta
tta_pipeline = [dict(type='DerivedViews')]  # the test_pipeline at four scales, each also flipped
model_wrapper_cfg = dict(type='FrozenModelWrapper')  # nothing is trained, so no gradients are exchanged
log_processor = dict(by_epoch=False)
log_level = 'INFO'
load_from = None
resume = False
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='PredictionVisualizationHook', interval=1),
)
custom_hooks = [dict(type='VocabularyCheckHook'), dict(type='SetupHook')]
