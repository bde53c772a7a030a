#!/usr/bin/env bash
# Everything as a graph of jobs: prepare, pre-train, then fold by fold fine-tune, normalize,
# classify, and a summary.
#
#   slurm/pipeline.sh [--dry-run] [--cluster configs/cluster/NAME.yaml] CONFIG [key=value ...]
#
# Started on a login node it submits what is not finished, prints a table of jobs and dependencies
# and ends; the same command again submits only what is missing. `--help` tells what CONFIG holds.
set -uo pipefail

# Slurm runs a copy of this file from its spool: the project is found through the job.
folder=$(dirname "$0")
[[ -f $folder/common.sh ]] || folder=$(dirname "$(scontrol show job "${SLURM_JOB_ID:-}" |
    sed -n 's/^ *Command=\([^ ]*\).*/\1/p' | head -n 1)")
[[ -f $folder/common.sh ]] || folder=${NORFACE_ROOT:-${SLURM_SUBMIT_DIR:-.}}/slurm
source "$folder/common.sh" || { echo "project not found; set NORFACE_ROOT to it" >&2; exit 2; }

load_setup
exec "${PYTHON[@]}" -m launchers.pipeline "$@"
