#!/usr/bin/env bash
# Trains the classifier F_cla on one fold.
#
#   slurm/train_cla.sh CONFIG data.shards=[shards/disfa] data.folds=disfa data.fold=test=part1 ...
#
# CONFIG is one of `norface train cla`. All folds, seeds and settings of a comparison at once, with
# their summary, are slurm/crossval.sh. Options, freezing and requeueing are pretrain_nor.sh's.
#SBATCH --job-name=train_cla
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

train cla train_cla.sh "" "$@"
