#!/usr/bin/env bash
# Trains F_nor on from a generator, on the corpus that is going to be classified.
#
#   slurm/finetune_nor.sh CONFIG generator=runs/nor-pretrain/generator.safetensors \
#       data.shards=[shards/disfa] fold.folds=disfa fold.fold=test=part1 [key=value ...]
#
# With fold.* only the train subjects of that fold are seen (protocol strict): one such job a fold.
# Without, everybody is (protocol paper). Options, freezing and requeueing are pretrain_nor.sh's.
#SBATCH --job-name=finetune_nor
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

take_options "$@"
[[ " $*" == *" generator="* ]] || grep -qsE '^generator: *[^ ]' "${WORDS[0]:-}" &&
    ! grep -qsE '^generator: *(null|~)? *$' "${WORDS[0]:-}" ||
    die "fine-tuning starts from a generator; add generator=RUN/generator.safetensors"
train nor finetune_nor.sh "" "$@"
