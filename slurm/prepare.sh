#!/usr/bin/env bash
# Prepares a corpus: official layout => aligned shards, on any number of nodes.
#
#   slurm/prepare.sh --array=0-15 CORPUS ROOT OUT [key=value ...] [options of norface prepare]
#   slurm/prepare.sh CORPUS ROOT OUT ...
#
# With --array each task takes its part of the photographs, and the one that finishes last writes
# the index, so no other job is needed. To have the rest done by one job when a task has failed for
# good, let it wait for the array: without --array the script does whatever is left.
#
#   job=$(slurm/prepare.sh --array=0-15 disfa /data/DISFA shards/disfa)
#   slurm/prepare.sh --dependency=afterany:$job disfa /data/DISFA shards/disfa
#
# A worker process a CPU of --cpus-per-task, each of about 0.6 GB. Killed, requeued or time-limited
# tasks go on where they were with the same command; a task loses one shard at most. Options and
# freezing are pretrain_nor.sh's; `sbatch slurm/prepare.sh ...` works too.
#SBATCH --job-name=prepare
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
((${#WORDS[@]} >= 3)) || die "expected CORPUS ROOT OUT, found: ${WORDS[*]}"
load_setup
if [[ ! ${SLURM_JOB_ID:-} ]]; then
    queue prepare.sh prepare "${WORDS[@]}" -- "${WORDS[@]}"
    exit
fi
set_part
export OMP_NUM_THREADS=1
echo "$(date +%T) job $SLURM_JOB_ID: part $PART on $(hostname), ${WORDS[*]}" >&2
run_once prepare "${WORDS[@]}" --part "$PART" --workers "${SLURM_CPUS_PER_TASK:-1}"
finish $?
