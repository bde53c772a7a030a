#!/usr/bin/env bash
# Trains the normalization network F_nor on any number of nodes.
#
#   slurm/pretrain_nor.sh [--dry-run] [CONFIG] [key=value ...]
#   slurm/pretrain_nor.sh --nodes=4 --gpus-per-node=8 --cpus-per-task=64 --time=24:00:00 CONFIG ...
#
# freezes code and config in the run folder, queues the job and prints its id; words before CONFIG
# are options of sbatch. `sbatch [options] slurm/pretrain_nor.sh CONFIG ...` freezes nothing: the
# job reads code and config when it starts. CONFIG is configs/nor/pretrain.yaml where none is given;
# paths are relative to where it was called.
#
# One rank a GPU; without GPUs NORFACE_RANKS_PER_NODE ranks a node (1). --cpus-per-task counts the
# CPUs of a node, shared by its ranks. NORFACE_VENV names a virtual environment other than .venv,
# NORFACE_ROOT a project folder other than the script's, NORFACE_GRACE_S the seconds that ranks have
# to save once asked (150). A preempted, time-limited or node-failed job is requeued and goes on from
# its last checkpoint; the same command continues a run that was cancelled.
#SBATCH --job-name=pretrain_nor
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --output=%x-%j.out
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@180
set -uo pipefail

# Slurm runs a copy of this file from its spool: the project is found through the job.
folder=$(dirname "$0")
[[ -f $folder/common.sh ]] || folder=$(dirname "$(scontrol show job "${SLURM_JOB_ID:-}" |
    sed -n 's/^ *Command=\([^ ]*\).*/\1/p' | head -n 1)")
[[ -f $folder/common.sh ]] || folder=${NORFACE_ROOT:-${SLURM_SUBMIT_DIR:-.}}/slurm
source "$folder/common.sh" || { echo "project not found; set NORFACE_ROOT to it" >&2; exit 2; }

train nor pretrain_nor.sh "$ROOT/configs/nor/pretrain.yaml" "$@"
