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
# own app, with norface[server]; MLFLOW_AUTH_ADMIN_PASSWORD gives the first one); TLS is a reverse
# proxy's (docs/cluster.md).
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
case ${NORFACE_MLFLOW_APP:-} in
    "") ;;
    basic-auth)
        [[ -s $folder/basic_auth.db || ${MLFLOW_AUTH_CONFIG_PATH:-} ||
            ${MLFLOW_AUTH_ADMIN_PASSWORD:-} ]] ||
            die "basic-auth: $folder has no users yet; export MLFLOW_AUTH_ADMIN_PASSWORD (12" \
                "characters or more), the password of the first one, admin"
        ;;
    *) die "NORFACE_MLFLOW_APP: found '$NORFACE_MLFLOW_APP'; there is: basic-auth" ;;
esac
if [[ ! ${SLURM_JOB_ID:-} && ! $here ]]; then
    [[ ! $dry_run ]] || { cat "$0"; exit; }
    exec sbatch --parsable "${OPTIONS[@]}" "$ROOT/slurm/mlflow.sh" "${WORDS[@]}"
fi
load_setup
mkdir -p "$folder" || die "$folder: cannot be made"
folder=$(cd "$folder" && pwd)
export MLFLOW_DISABLE_TELEMETRY=true
if [[ ! ${MLFLOW_BACKEND_STORE_URI:-} ]]; then
    export MLFLOW_BACKEND_STORE_URI=sqlite:///$folder/mlflow.db
    # Whole or not at all: MLflow cannot go on with a file that it was killed over.
    "${PYTHON[@]}" -c 'import sys; from pathlib import Path
from norface.mlflow_client import import_mlflow, make_store
import_mlflow(); make_store(Path(sys.argv[1]))' "$folder/mlflow.db" ||
        die "$folder/mlflow.db: cannot be made"
fi
if [[ ${NORFACE_MLFLOW_APP:-} ]]; then
    "${PYTHON[@]}" -c 'import flask_wtf' 2>/dev/null ||
        die "basic-auth: needs Flask-WTF; pip install norface[server]"
    # Signs the forms of this one process; nothing that is kept depends on it.
    MLFLOW_FLASK_SERVER_SECRET_KEY=${MLFLOW_FLASK_SERVER_SECRET_KEY:-$(
        "${PYTHON[@]}" -c 'import secrets; print(secrets.token_hex(32))'
    )}
    export MLFLOW_FLASK_SERVER_SECRET_KEY
    if [[ ! ${MLFLOW_AUTH_CONFIG_PATH:-} ]]; then
        # MLflow would keep its users in the working folder. Their passwords are hashed.
        (umask 077 && touch "$folder/basic_auth.db") || die "$folder/basic_auth.db: cannot be made"
        export MLFLOW_AUTH_CONFIG_PATH=$folder/basic_auth.ini
        printf '%s\n' '[mlflow]' 'default_permission = READ' 'admin_username = admin' \
            "database_uri = sqlite:///${folder//%/%%}/basic_auth.db" >"$MLFLOW_AUTH_CONFIG_PATH" ||
            die "$MLFLOW_AUTH_CONFIG_PATH: cannot be written"
    fi
fi
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
