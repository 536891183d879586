#!/usr/bin/env bash
# Evaluate on a Slurm cluster:
#     tools/slurm_test.sh PARTITION JOB_NAME CONFIG [CHECKPOINT] [flags of tools/test.py]
# GPUS (processes in all), GPUS_PER_NODE, CPUS_PER_TASK and SRUN_ARGS are read as MMSegmentation's script reads them;
# GPUS_PER_NODE=0 runs GPUS processes on CPUs.
set -euo pipefail

if [ $# -lt 3 ]; then
    sed -n '2,5s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
partition=$1
job_name=$2
shift 2
gpus=${GPUS:-4}
gpus_per_node=${GPUS_PER_NODE:-4}
resources=()
if [ "$gpus_per_node" -gt 0 ]; then
    resources=(--gres="gpu:$gpus_per_node" --ntasks-per-node="$gpus_per_node")
fi

# shellcheck disable=SC2086  # SRUN_ARGS holds several words
exec srun -p "$partition" \
    --job-name="$job_name" \
    --ntasks="$gpus" \
    ${resources[@]+"${resources[@]}"} \
    --cpus-per-task="${CPUS_PER_TASK:-5}" \
    --kill-on-bad-exit=1 \
    ${SRUN_ARGS:-} \
    python -u "$(dirname "$0")/test.py" "$@" --launcher slurm
