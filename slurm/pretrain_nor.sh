#!/usr/bin/env bash
# Trains the normalization network F_nor on any number of nodes.
#
#   sbatch slurm/pretrain_nor.sh [CONFIG] [key=value ...]
#   sbatch --nodes=4 --gpus-per-node=8 --cpus-per-task=64 --time=24:00:00 slurm/pretrain_nor.sh ...
#
# CONFIG is configs/nor/pretrain.yaml where none is given; paths are relative to where sbatch was
# called. One rank a GPU; without GPUs NORFACE_RANKS_PER_NODE ranks a node (1). --cpus-per-task
# counts the CPUs of a node, shared by its ranks. NORFACE_VENV names a virtual environment other
# than .venv, NORFACE_ROOT a project folder other than the script's. A preempted, time-limited or
# node-failed job is requeued and goes on from its last checkpoint; the same command continues a
# run that was cancelled.
#SBATCH --job-name=pretrain_nor
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --output=%x-%j.out
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@180
set -uo pipefail

# Slurm runs a copy of this file from its spool, so the project is found through the job.
project_root() {
    local script
    script=$(scontrol show job "$SLURM_JOB_ID" | sed -n 's/^ *Command=\([^ ]*\).*/\1/p')
    for root in "${NORFACE_ROOT:-}" "$(dirname "$(dirname "$script")")" "$SLURM_SUBMIT_DIR"; do
        if [[ -f $root/slurm/common.sh ]]; then echo "$root"; return; fi
    done
}
[[ ${SLURM_JOB_ID:-} ]] || { echo "start it with: sbatch $0 [CONFIG] [key=value ...]" >&2; exit 2; }
ROOT=$(project_root)
[[ $ROOT ]] || { echo "project not found; set NORFACE_ROOT to its folder" >&2; exit 2; }
source "$ROOT/slurm/common.sh"

config=$ROOT/configs/nor/pretrain.yaml
if [[ ${1:-} && $1 != *=* ]]; then
    config=$1
    shift
fi
[[ -f $config ]] || die "$config: no such config file"
find_python "$ROOT"
set_ranks
echo "$(date +%T) job $SLURM_JOB_ID, start $((${SLURM_RESTART_COUNT:-0} + 1)):" \
    "$NORFACE_WORLD_SIZE ranks on $SLURM_JOB_NUM_NODES nodes, $config $*" >&2
run_ranks train nor -c "$config" "$@"
finish $?
