#!/usr/bin/env bash
# Normalizes every face of a folder of shards onto one target, on any number of nodes.
#
#   slurm/normalize.sh --array=0-15 [CONFIG] generator=runs/nor/generator.safetensors \
#       source=shards/disfa target_key=disfa_SN001_left_1 out=normalized/disfa
#
# Each task of the array takes its part of the shards, and the one that finishes last writes the
# index, so no other job is needed. Without --array the script does whatever is left. One process a
# task, on a GPU where it has one (--gpus-per-node=1). A killed, requeued or time-limited task loses
# one shard at most. Options and freezing are pretrain_nor.sh's.
#SBATCH --job-name=normalize
#SBATCH --nodes=1
#SBATCH --ntasks=1
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
load_setup
[[ ! -f ${WORDS[0]:-} && ${WORDS[0]:-} == *=* ]] || WORDS=(-c "${WORDS[@]}")
if [[ ! ${SLURM_JOB_ID:-} ]]; then
    queue normalize.sh normalize "${WORDS[@]}"
    exit
fi
set_part
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-${SLURM_CPUS_PER_TASK:-1}}
echo "$(date +%T) job $SLURM_JOB_ID: part $PART on $(hostname), ${WORDS[*]}" >&2
run_once normalize "${WORDS[@]}" "part=$PART"
finish $?
