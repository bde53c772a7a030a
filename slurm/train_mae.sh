#!/usr/bin/env bash
# Trains the face encoder E_s by masked auto-encoding, for those who have no weights of it.
#
#   slurm/train_mae.sh --nodes=4 --gpus-per-node=8 --cpus-per-task=64 [CONFIG] [key=value ...]
#
# CONFIG is configs/mae/vit-b16.yaml where none is given. Options, freezing and requeueing are
# pretrain_nor.sh's.
#SBATCH --job-name=train_mae
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

train mae train_mae.sh "$ROOT/configs/mae/vit-b16.yaml" "$@"
