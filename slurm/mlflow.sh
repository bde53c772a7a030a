#!/usr/bin/env bash
# A tracking server for all jobs: MLflow on the node that it runs on.
#
#   slurm/mlflow.sh [--time=7-00:00:00 ...] [FOLDER] [host=ADDRESS] [port=5000]
#   bash slurm/mlflow.sh here FOLDER ...      on this machine, without Slurm
#
# Prints the address that others set as MLFLOW_TRACKING_URI. It listens on loopback only, for jobs of
# the same node and for ssh tunnels, unless host= says otherwise: host=0.0.0.0, or the node's address
# in the cluster's own network. Who can reach it can read, change and delete every run: it has
# neither passwords nor TLS of its own. NORFACE_MLFLOW_APP=basic-auth asks for passwords (MLflow's
# own app); TLS is a reverse proxy's (docs/cluster.md).
#
# Runs are kept in FOLDER/mlflow.db (sqlite, for some dozen writers; on a local disk if you can) and
# FOLDER/artifacts; FOLDER is runs/mlflow where none is given. For more, put the URI of a PostgreSQL
# into MLFLOW_BACKEND_STORE_URI: from the environment, because it holds a password.
#SBATCH --job-name=mlflow
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --output=%x-%j.out
#SBATCH --open-mode=append
#SBATCH --requeue
set -uo pipefail

# Slurm runs a copy of this file from its spool: the project is found through the job.
folder=$(dirname "$0")
[[ -f $folder/common.sh ]] || folder=$(dirname "$(scontrol show job "${SLURM_JOB_ID:-}" |
    sed -n 's/^ *Command=\([^ ]*\).*/\1/p' | head -n 1)")
[[ -f $folder/common.sh ]] || folder=${NORFACE_ROOT:-${SLURM_SUBMIT_DIR:-.}}/slurm
source "$folder/common.sh" || { echo "project not found; set NORFACE_ROOT to it" >&2; exit 2; }

take_options "$@"
folder=runs/mlflow host=127.0.0.1 port=5000 here=""
for word in "${WORDS[@]}"; do
    case $word in
        here) here=yes ;;
        host=*) host=${word#host=} ;;
        port=*) port=${word#port=} ;;
        *=*) die "$word: unknown; there are: host=, port=" ;;
        *) folder=$word ;;
    esac
done
[[ $port =~ ^[0-9]+$ ]] || die "port=$port: expected a number"
if [[ ! ${SLURM_JOB_ID:-} && ! $here ]]; then
    [[ ! $dry_run ]] || { cat "$0"; exit; }
    exec sbatch --parsable "${OPTIONS[@]}" "$ROOT/slurm/mlflow.sh" "${WORDS[@]}"
fi
load_setup
mkdir -p "$folder" || die "$folder: cannot be made"
folder=$(cd "$folder" && pwd)
export MLFLOW_DISABLE_TELEMETRY=true
export MLFLOW_BACKEND_STORE_URI=${MLFLOW_BACKEND_STORE_URI:-sqlite:///$folder/mlflow.db}
reached=$host
[[ $host != 0.0.0.0 ]] || reached=$(hostname)
hosts=localhost,localhost:*,127.0.0.1,127.0.0.1:*,$reached,$reached:*
[[ $host == 127.* || $host == localhost || ${NORFACE_MLFLOW_APP:-} ]] ||
    echo "warning: no passwords; whoever reaches $reached:$port can change and delete runs" >&2
echo "MLFLOW_TRACKING_URI=http://$reached:$port"
echo "its runs: ${MLFLOW_BACKEND_STORE_URI%%:*} store, artifacts in $folder/artifacts" >&2
exec "${PYTHON[@]}" -m mlflow server --host "$host" --port "$port" --allowed-hosts "$hosts" \
    --artifacts-destination "$folder/artifacts" --serve-artifacts --workers 1 \
    ${NORFACE_MLFLOW_APP:+--app-name "$NORFACE_MLFLOW_APP"}
