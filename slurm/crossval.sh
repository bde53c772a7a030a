#!/usr/bin/env bash
# Cross-validates the classifier F_cla: an array of jobs, one a setting, seed and fold, and a job
# after them that summarizes.
#
#   slurm/crossval.sh [--dry-run] CONFIG [key=value ...]
#   slurm/crossval.sh --gpus-per-node=1 --cpus-per-task=8 --time=24:00:00 CONFIG ...
#
# Started on a login node it counts the folds, freezes code and config, submits both and prints their
# ids. Options are those of the folds' jobs; the nodes and GPUs of a job share its fold. Paths are
# relative to where it was called. NORFACE_AT_ONCE limits how many folds run at once (all). A
# preempted, time-limited or node-failed fold is requeued and goes on from its last checkpoint; when
# one fails the others go on, the summary says which are missing, and the same command again trains
# only those. NORFACE_RANKS_PER_NODE, NORFACE_VENV and NORFACE_GRACE_S are those of pretrain_nor.sh.
#SBATCH --job-name=crossval
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

submit() { # CONFIG [key=value ...]
    local folds count array="" summary
    folds=$("${PYTHON[@]}" -m norface crossval -c "$@" --dry-run) || exit $?
    count=$(wc -l <<<"$folds")
    OPTIONS=("--array=1-$count${NORFACE_AT_ONCE:+%$NORFACE_AT_ONCE}" --output=%x-%A_%a.out
        "${OPTIONS[@]}")
    if [[ $dry_run ]]; then
        queue crossval.sh crossval -c "$@"
        return
    fi
    array=$(NORFACE_CROSSVAL=fold queue crossval.sh crossval -c "$@") || exit $?
    OPTIONS=("--dependency=afterany:$array" --job-name=crossval-summary)
    summary=$(NORFACE_CROSSVAL=summary queue crossval.sh crossval -c "$@") || exit $?
    echo "$count folds in the array $array, then the summary in $summary" >&2
    echo "$array $summary"
}

take_options "$@"
[[ -f ${WORDS[0]:-} ]] ||
    die "start it with: slurm/crossval.sh CONFIG [key=value ...]; found '${WORDS[0]:-}'"
load_setup
case ${NORFACE_CROSSVAL:-submit} in
    submit) submit "${WORDS[@]}" ;;
    summary)
        run_once crossval -c "${WORDS[@]}" --collect
        finish $?
        ;;
    fold)
        set_ranks
        set_part
        echo "$(date +%T) job $SLURM_JOB_ID, start $((${SLURM_RESTART_COUNT:-0} + 1)):" \
            "part $PART, $NORFACE_WORLD_SIZE ranks on $SLURM_JOB_NUM_NODES nodes" >&2
        run_ranks crossval -c "${WORDS[@]}" "part=$PART"
        finish $?
        ;;
esac
