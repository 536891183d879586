#!/usr/bin/env bash
# Evaluate on several processes of one or more machines:
#     tools/dist_test.sh CONFIG GPUS [CHECKPOINT] [flags of tools/test.py]
# Without GPUs the processes run on the CPU. NNODES, NODE_RANK, MASTER_ADDR and PORT are read as MMSegmentation's script
# reads them; start the same command on every machine.
set -euo pipefail

if [ $# -lt 2 ]; then
    sed -n '2,5s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
config=$1
processes=$2
shift 2

exec python -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" \
    --nproc_per_node="$processes" \
    "$(dirname "$0")/test.py" "$config" "$@" --launcher pytorch
