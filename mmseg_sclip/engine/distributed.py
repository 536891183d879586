"""Several processes, on one machine or many, with or without GPUs."""

from __future__ import annotations

import atexit
import gc
import os
import re
import subprocess
from datetime import timedelta
from typing import Any

import torch
import torch.distributed
from mmseg.registry import MODEL_WRAPPERS
from torch import nn

from .. import errors
from ..errors import UsageError

TIMEOUT = timedelta(minutes=30)  # how long one process waits for another

# What each launcher calls the rank, the number of processes, and the rank on this machine.
_VARIABLES = {
    'pytorch': ('RANK', 'WORLD_SIZE', 'LOCAL_RANK'),
    'slurm': ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_LOCALID'),
    'mpi': ('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_LOCAL_RANK'),
}


def join_processes(launcher: str, device: torch.device | None = None, timeout: timedelta = TIMEOUT) -> torch.device:
    """Join the processes that a launcher has started, and choose this one's device.

    With GPUs the backend is nccl and each process takes the GPU of its rank on the machine; without, gloo on the CPU.
    MMEngine would set a CUDA device in both cases. The process leaves the others when it exits, however it ends.

    Args:
        launcher: 'pytorch' for torchrun, 'slurm' or 'mpi'.
        device: What the user wants: None for GPUs where there are some, or a device type.
        timeout: How long a process waits for another one before it gives up.

    Raises:
        UsageError: The launcher did not start this process, there are more processes than GPUs, or the first
            machine of a Slurm job is not known.
    """
    names = _VARIABLES[launcher]
    missing = [name for name in names if name not in os.environ]
    if missing:
        starter = dict(pytorch='torchrun, or tools/dist_test.sh', slurm='srun, or tools/slurm_test.sh', mpi='mpirun')
        raise UsageError(
            f'--launcher {launcher} belongs to processes that {starter[launcher]} starts, but the variable '
            f'{missing[0]} is not set. Start the command so, or leave --launcher out.'
        )
    rank, world_size, local_rank = (int(os.environ[name]) for name in names)
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world_size), LOCAL_RANK=str(local_rank))
    os.environ.setdefault('MASTER_PORT', '29500')
    if 'MASTER_ADDR' not in os.environ:
        os.environ['MASTER_ADDR'] = _first_host() if launcher == 'slurm' else '127.0.0.1'
    gpus = 0 if device is not None and device.type == 'cpu' else torch.cuda.device_count()
    if gpus and local_rank >= gpus:
        raise UsageError(
            f'This machine has {gpus} GPUs, but process {local_rank + 1} of it was started. Start at most {gpus} '
            'processes per machine, or run them on the CPU with --device cpu.'
        )
    own = torch.device('cuda', local_rank) if gpus else torch.device('cpu')
    if gpus:
        torch.cuda.set_device(own)
    torch.distributed.init_process_group('nccl' if gpus else 'gloo', timeout=timeout)
    atexit.register(leave_processes)
    return own


def leave_processes() -> None:
    """Leave the processes that were joined.

    A process that exits with its group still there may be aborted by gloo's threads after it has done all its work.
    Called at the exit, so that the message of an error is printed before the others notice.
    """
    if not torch.distributed.is_initialized():
        return
    if torch.distributed.get_backend() == 'nccl' and errors.exit_code != 0:
        return  # destroying the group waits for the others, which may wait for this one; its threads do no harm
    gc.collect()  # runners are in cycles, and gloo's threads end with the last model that is wrapped for training
    torch.distributed.destroy_process_group()


def _first_host() -> str:
    """The first machine of a Slurm job.

    Raises:
        UsageError: Slurm's short form of several machines cannot be read here.
    """
    nodes = os.environ.get('SLURM_JOB_NODELIST') or os.environ.get('SLURM_NODELIST', '127.0.0.1')
    try:
        hosts = subprocess.run(['scontrol', 'show', 'hostnames', nodes], capture_output=True, text=True).stdout.split()
    except OSError:  # a container need not have Slurm's programs
        hosts = []
    if not hosts and not re.fullmatch(r'[\w.-]+', nodes):
        raise UsageError(
            f'The machines of this job are {nodes}, and `scontrol`, which lists their names, cannot be run here. Set '
            'the variable MASTER_ADDR to the name of the first one.'
        )
    return hosts[0] if hosts else nodes


@MODEL_WRAPPERS.register_module()
class FrozenModelWrapper(nn.Module):
    """Takes the place of `DistributedDataParallel` around a model without trainable parameters.

    That class refuses models without trainable parameters, and has gradients to exchange; here each process simply
    has a model of its own. `model_wrapper_cfg` of a config names it.

    Args:
        module: The model.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the model."""
        return self.module(*args, **kwargs)

    def test_step(self, data: Any) -> Any:
        """Call the model's own `test_step`."""
        return self.module.test_step(data)

    def val_step(self, data: Any) -> Any:
        """Call the model's own `val_step`."""
        return self.module.val_step(data)
