#!/usr/bin/env bash
# Cross-validates the classifier F_cla: an array of jobs, one a setting, seed and fold, and a job
# after them that summarizes.
#
#   slurm/crossval.sh CONFIG [key=value ...]
#   SBATCH="--gpus-per-node=1 --cpus-per-task=8 --time=24:00:00" slurm/crossval.sh CONFIG ...
#
# Started on a login node (or by sbatch, as a small job) it counts the folds, submits both and
# prints their ids. SBATCH holds options of the folds' jobs; the nodes and GPUs of a job share its
# fold. Paths are relative to where it was called. NORFACE_AT_ONCE limits how many folds run at once
# (all). A preempted, time-limited or node-failed fold is requeued and goes on from its last
# checkpoint; when one fails, the summary is cancelled, and the same command again trains only what
# is missing. NORFACE_RANKS_PER_NODE, NORFACE_VENV and NORFACE_ROOT are those of pretrain_nor.sh.
#SBATCH --job-name=crossval
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --output=%x-%j.out
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@180
set -uo pipefail

# Slurm runs a copy of this file from its spool, so the project is found through the job.
project_root() {
    local script=${BASH_SOURCE[0]} job=${SLURM_JOB_ID:-}
    if [[ $job ]]; then
        script=$(scontrol show job "$job" | sed -n 's/^ *Command=\([^ ]*\).*/\1/p' | head -n 1)
    fi
    script=$(cd "$(dirname "$script")/.." && pwd)
    for root in "${NORFACE_ROOT:-}" "$script" "${SLURM_SUBMIT_DIR:-}"; do
        if [[ -f $root/slurm/common.sh ]]; then echo "$root"; return; fi
    done
}
ROOT=$(project_root)
[[ $ROOT ]] || { echo "project not found; set NORFACE_ROOT to its folder" >&2; exit 2; }
source "$ROOT/slurm/common.sh"

# Options after sbatch's own name: what the array's tasks and the summary are told they are.
submit() { # CONFIG [key=value ...]
    local folds count array summary limit=${NORFACE_AT_ONCE:+%$NORFACE_AT_ONCE}
    folds=$("$PYTHON" -m norface crossval -c "$@" --dry-run) || exit $?
    count=$(wc -l <<<"$folds")
    local script=$ROOT/slurm/crossval.sh
    # shellcheck disable=SC2086  # SBATCH holds several options
    array=$(NORFACE_CROSSVAL=fold sbatch --parsable --array="1-$count$limit" \
        --output=%x-%A_%a.out ${SBATCH:-} "$script" "$@") || exit 1
    summary=$(NORFACE_CROSSVAL=summary sbatch --parsable --dependency="afterok:$array" \
        --kill-on-invalid-dep=yes --job-name=crossval-summary "$script" "$@") || exit 1
    echo "$count folds in the array $array, then the summary in $summary" >&2
    echo "$array $summary"
}

[[ -f ${1:-} ]] || die "start it with: slurm/crossval.sh CONFIG [key=value ...]; found '${1:-}'"
find_python "$ROOT"
export PYTHONPATH=$ROOT${PYTHONPATH:+:$PYTHONPATH}
case ${NORFACE_CROSSVAL:-submit} in
    submit) submit "$@" ;;
    summary) exec "$PYTHON" -m norface crossval -c "$@" --collect ;;
    fold)
        set_ranks
        part=$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_MAX
        echo "$(date +%T) job $SLURM_JOB_ID, start $((${SLURM_RESTART_COUNT:-0} + 1)):" \
            "part $part, $NORFACE_WORLD_SIZE ranks on $SLURM_JOB_NUM_NODES nodes" >&2
        run_ranks crossval -c "$@" "part=$part"
        finish $?
        ;;
esac
