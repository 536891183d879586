"""Flags that several tools share."""

from argparse import ArgumentParser

from mmengine.config import DictAction


class CfgOptions(DictAction):
    """MMEngine's KEY=VALUE pairs, with a message for words that are none."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        """Parse all pairs of one `--cfg-options`."""
        for pair in values:
            if '=' not in pair:
                parser.error(
                    f'{option_string} takes KEY=VALUE pairs, and {pair!r} is none; values cannot contain spaces'
                )
        super().__call__(parser, namespace, values, option_string)


def add_model_flags(parser: ArgumentParser, example: str) -> None:
    """Add the flags that choose CLIP and the device, and `--cfg-options`.

    Args:
        parser: Of the tool.
        example: KEY=VALUE, as the help of `--cfg-options` shows it.
    """
    parser.add_argument('--model-name', help="CLIP's architecture, in place of the config's clip.model_name")
    parser.add_argument('--pretrained', help="tag or file of CLIP's weights, in place of the config's clip.pretrained")
    parser.add_argument('--device', help='cpu, cuda, cuda:1, ... (default: a GPU where there is one)')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=CfgOptions,
        metavar='KEY=VALUE',
        help=f'override settings of the config, such as {example}; values cannot contain spaces',
    )


def add_launcher_flags(parser: ArgumentParser) -> None:
    """Add MMSeg's flags of distributed runs, which no tool supports yet."""
    parser.add_argument(
        '--launcher',
        choices=('none', 'pytorch', 'slurm', 'mpi'),
        default='none',
        help='how several processes are started; only none works in this version',
    )
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help="set by torch's launcher")
