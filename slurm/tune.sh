#!/usr/bin/env bash
# Searches with Ray Tune over all nodes of the allocation.
#
#   slurm/tune.sh CONFIG [key=value ...]
#   slurm/tune.sh --nodes=4 --gpus-per-node=8 --cpus-per-task=64 --time=24:00:00 CONFIG ...
#
# CONFIG is one of configs/tune; paths are relative to where sbatch was called. Ray's head and the
# driver run on the first node, a worker on each other; trials go wherever they fit. Ports are free
# ones on all nodes, looked for from the job's number on, so that jobs that share a node do not meet.
# Ray listens on every interface, behind a token that only this job knows (docs/sweeps.md).
# A preempted, time-limited or node-failed job is requeued and goes on; so does the same command.
# Options, --dry-run and freezing are pretrain_nor.sh's; NORFACE_VENV names a virtual environment
# other than .venv (with norface[tune]).
#SBATCH --job-name=tune
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
[[ -f ${WORDS[0]:-} ]] || die "expected a config of configs/tune, found '${WORDS[0]:-}'"
load_setup
[[ -x $(dirname "$PYTHON")/ray ]] || die "no Ray beside $PYTHON; pip install norface[tune]"
if [[ ! ${SLURM_JOB_ID:-} ]]; then
    snapshot=$("${PYTHON[@]}" -m tune.freeze ${dry_run:+--dry-run} "${WORDS[@]}") || exit $?
    queue_frozen tune.sh "$snapshot" "$snapshot/config.yaml"
    exit
fi
export RAY_USAGE_STATS_ENABLED=0 RAY_AUTH_MODE=token RAY_DISABLE_IMPORT_WARNING=1
RAY_AUTH_TOKEN=$("$PYTHON" -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_TOKEN

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
first=${nodes[0]}
address=$(getent ahostsv4 "$first" | awk 'NR == 1 {print $1}')
[[ $address && $address != 127.* ]] || address=$(hostname --ip-address | awk '{print $1}')
# Of all nodes: one number serves them all.
port=$(srun --overlap --nodes="${#nodes[@]}" --ntasks="${#nodes[@]}" --ntasks-per-node=1 \
    bash -c "$(declare -f show_sockets); show_sockets" | choose_ports 10000 30000 40 8) || exit $?
ports=(--node-manager-port=$((port + 1)) --object-manager-port=$((port + 2))
    --dashboard-agent-listen-port=$((port + 4)) --dashboard-agent-grpc-port=$((port + 5))
    --runtime-env-agent-port=$((port + 6)) --metrics-export-port=$((port + 7))
    --min-worker-port=0 --max-worker-port=0) # workers: whatever is free
scratch=/tmp/ray-$SLURM_JOB_ID

# Ray gives up where a busy node takes longer than half a minute to start it: up to three times.
start_ray() { # NODES, an option of srun that places them, options of `ray start`
    local count=$1 place=$2 code=1
    shift 2
    # The CPUs and GPUs are those of the node where it runs.
    # shellcheck disable=SC2016
    for _ in 1 2 3; do
        SECONDS=0
        srun --overlap --nodes="$count" --ntasks="$count" --ntasks-per-node=1 "$place" \
            --cpus-per-task="${SLURM_CPUS_PER_TASK:-$SLURM_CPUS_ON_NODE}" \
            bash -c 'exec "$0" start --block --disable-usage-stats --num-cpus="$SLURM_CPUS_ON_NODE" \
                --num-gpus="${SLURM_GPUS_ON_NODE:-0}" "$@"' \
            "$(dirname "$PYTHON")/ray" "${ports[@]}" --object-store-memory=200000000 "$@"
        code=$?
        ((SECONDS < 150)) || break
        sleep 5
    done
    return $code
}

log=tune-$SLURM_JOB_ID.ray.log
echo "$(date +%T) job $SLURM_JOB_ID, start $((${SLURM_RESTART_COUNT:-0} + 1)): Ray on" \
    "${#nodes[@]} nodes, head $first ($address:$port), its log $log" >&2
start_ray 1 --nodelist="$first" --head --node-ip-address="$address" --port="$port" \
    --include-dashboard=false --temp-dir="$scratch" >>"$log" 2>&1 &
head=$!
if ((${#nodes[@]} > 1)); then
    start_ray $((${#nodes[@]} - 1)) --exclude="$first" --address="$address:$port" \
        >>"$log" 2>&1 &
fi

"$PYTHON" -m tune.search "${WORDS[@]}" --address "$address:$port" --nodes "${#nodes[@]}" &
driver=$!
trap 'stop_asked=yes; kill -TERM $driver 2>/dev/null' USR1 TERM
# `wait` also returns when a trap has run: what counts is who is gone.
while kill -0 "$driver" 2>/dev/null; do
    wait -n "$driver" "$head"
    kill -0 "$head" 2>/dev/null || break
done
if kill -0 "$driver" 2>/dev/null; then
    echo "$(date +%T) Ray's head has ended, see $log" >&2
    kill -TERM "$driver"
    wait "$driver"
    code=1
else
    wait "$driver"
    code=$?
fi
trap '' USR1 TERM
rm -rf "$scratch"
finish $code
