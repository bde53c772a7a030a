#!/usr/bin/env bash
# Prepares a corpus: official layout => aligned shards, on any number of nodes.
#
#   sbatch --array=0-15 slurm/prepare.sh CORPUS ROOT OUT [key=value ...] [options of norface prepare]
#   sbatch slurm/prepare.sh CORPUS ROOT OUT ...
#
# With --array each task takes its part of the photographs, and the one that finishes last writes
# the index, so no other job is needed. To have the rest done by one job when a task has failed for
# good, let it wait for the array: without --array the script does whatever is left.
#
#   job=$(sbatch --parsable --array=0-15 slurm/prepare.sh disfa /data/DISFA shards/disfa)
#   sbatch --dependency=afterany:$job slurm/prepare.sh disfa /data/DISFA shards/disfa
#
# A worker process a CPU of --cpus-per-task, each of about 0.6 GB. Killed, requeued or time-limited
# tasks go on where they were with the same command; a task loses one shard at most. NORFACE_VENV
# names a virtual environment other than .venv, NORFACE_ROOT a project folder other than the script's.
#SBATCH --job-name=prepare
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --output=%x-%j.out
#SBATCH --open-mode=append
#SBATCH --requeue
set -uo pipefail

# Slurm runs a copy of this file from its spool, so the project is found through the job.
project_root() {
    local script
    script=$(scontrol show job "$SLURM_JOB_ID" | sed -n 's/^ *Command=\([^ ]*\).*/\1/p' | head -n 1)
    for root in "${NORFACE_ROOT:-}" "$(dirname "$(dirname "$script")")" "$SLURM_SUBMIT_DIR"; do
        if [[ -f $root/slurm/common.sh ]]; then echo "$root"; return; fi
    done
}
[[ ${SLURM_JOB_ID:-} ]] || { echo "start it with: sbatch $0 CORPUS ROOT OUT" >&2; exit 2; }
ROOT=$(project_root)
[[ $ROOT ]] || { echo "project not found; set NORFACE_ROOT to its folder" >&2; exit 2; }
source "$ROOT/slurm/common.sh"

(($# >= 3)) || die "expected CORPUS ROOT OUT, found: $*"
find_python "$ROOT"
part=1/1
if [[ ${SLURM_ARRAY_TASK_COUNT:-} ]]; then
    # Tasks are counted from the first: 0-15 and 1-16 are the same sixteen parts.
    part=$((SLURM_ARRAY_TASK_ID - SLURM_ARRAY_TASK_MIN + 1))/$SLURM_ARRAY_TASK_COUNT
    ((SLURM_ARRAY_TASK_MAX - SLURM_ARRAY_TASK_MIN + 1 == SLURM_ARRAY_TASK_COUNT)) ||
        die "--array must be a whole range such as 0-15; to do what is left, leave --array out"
fi
export OMP_NUM_THREADS=1
echo "$(date +%T) job $SLURM_JOB_ID: part $part on $(hostname), $*" >&2
exec "$PYTHON" -m norface prepare "$@" --part "$part" --workers "${SLURM_CPUS_PER_TASK:-1}"
