"""A check before any phrase is encoded: the vocabulary, or the trained head, must be the dataset's."""

from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from torch.nn import ModuleList

from ..errors import ConfigError
from ..models.segmentors import MethodBundle


@HOOKS.register_module()
class VocabularyCheckHook(Hook):
    """Stop a test or a training whose dataset has another number of classes than the vocabulary or the trained head.

    `_base_/default_runtime.py` registers it; the command line adds it where a config lacks it.

    Raises:
        ConfigError: Before the first image, with both counts.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        """Compare the model's classes with those of the training dataset."""
        self._compare(runner, runner.train_dataloader.dataset)

    def before_test(self, runner: Runner) -> None:
        """Compare the model's classes with those of the test dataset."""
        self._compare(runner, runner.test_dataloader.dataset)

    def before_val(self, runner: Runner) -> None:
        """Compare the model's classes with those of the validation dataset."""
        self._compare(runner, runner.val_dataloader.dataset)

    @staticmethod
    def _compare(runner: Runner, dataset) -> None:
        model = runner.model
        while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
            model = model.module
        classes = dataset.metainfo.get('classes')
        for part in model.methods if isinstance(model, MethodBundle) else [model]:
            head = getattr(part, 'decode_head', None)
            head = head[-1] if isinstance(head, ModuleList) and len(head) else head  # of a cascade
            vocabulary = getattr(head, 'vocabulary', None)
            number = getattr(head if vocabulary is None else vocabulary, 'num_classes', None)
            if number is None or classes is None or len(classes) == number:
                continue
            if vocabulary is None:
                raise ConfigError(
                    f'The decode head {type(head).__name__} has {number} classes, but the dataset '
                    f'{type(dataset).__name__} has {len(classes)} (from {classes[0]} to {classes[-1]}). Set '
                    'model.decode_head.num_classes, or name the dataset that the model was trained for.'
                )
            raise ConfigError(
                f'The vocabulary {vocabulary.name} has {vocabulary.num_classes} classes, but the dataset '
                f'{type(dataset).__name__} has {len(classes)} (from {classes[0]} to {classes[-1]}). A vocabulary '
                'has one line per class, in the order of the dataset: correct the file, or name the one that '
                'belongs to this dataset in model.decode_head.vocabulary.'
            )
