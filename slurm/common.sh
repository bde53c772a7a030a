# Shared by the job scripts of this folder; sourced, never submitted.
#
# How a job goes: the batch script starts one task a rank through srun and waits. Slurm sends the
# script USR1 before the time limit and at preemption (or TERM to the ranks themselves); the ranks
# save at the same step and end with 75; the script requeues the job, which resumes by itself.

RESUME_CODE=75 # EX_TEMPFAIL: "saved as asked; start me again" (norface/training/preemption.py)
stop_asked=""

die() {
    echo "${SLURM_JOB_NAME:-$0}: $*" >&2
    exit 2
}

# Sets PYTHON: that of the virtual environment in NORFACE_VENV, else of .venv in the project.
find_python() { # ROOT
    local venv=${NORFACE_VENV:-$1/.venv}
    PYTHON=$venv/bin/python
    [[ -x $PYTHON ]] || die "no $PYTHON; make .venv as README says, or set NORFACE_VENV to yours"
}

# Sets and exports what every rank must agree on. A rank a GPU, or NORFACE_RANKS_PER_NODE (1) on CPU.
set_ranks() {
    local gpus=${SLURM_GPUS_ON_NODE:-0}
    RANKS_PER_NODE=${NORFACE_RANKS_PER_NODE:-$((gpus > 0 ? gpus : 1))}
    CPUS_PER_RANK=$((${SLURM_CPUS_ON_NODE:-1} / RANKS_PER_NODE))
    ((CPUS_PER_RANK > 0)) || die "$RANKS_PER_NODE ranks share ${SLURM_CPUS_ON_NODE:-1} CPU(s)" \
        "of a node; ask for more, for example sbatch --cpus-per-task=$RANKS_PER_NODE"
    # A partly set environment starts several small runs that overwrite each other: the program
    # refuses to train unless it finds exactly this number of ranks.
    export NORFACE_WORLD_SIZE=$((SLURM_JOB_NUM_NODES * RANKS_PER_NODE))
    MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
    MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000)) # jobs that share a node must not share a port
    export MASTER_ADDR MASTER_PORT
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$CPUS_PER_RANK}
}

# Runs `norface ARGUMENTS` on every rank; USR1 and TERM to this script reach the ranks as USR1.
run_ranks() { # ARGUMENTS...; returns the ranks' exit code
    local code ended
    trap 'ask_to_stop' USR1 TERM
    srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$NORFACE_WORLD_SIZE" \
        --ntasks-per-node="$RANKS_PER_NODE" --cpus-per-task="$CPUS_PER_RANK" \
        --kill-on-bad-exit=1 "$PYTHON" -m launchers.slurm_rank "$@" &
    srun_pid=$!
    # `wait` also returns when a trap has run, so the code that counts is that of a gone srun.
    until
        wait "$srun_pid"
        code=$?
        ! kill -0 "$srun_pid" 2>/dev/null
    do :; done
    wait "$srun_pid"
    ended=$?
    ((ended == 127)) || code=$ended
    trap '' USR1 TERM
    return $code
}

ask_to_stop() {
    stop_asked=yes
    echo "$(date +%T) asked to stop: the ranks save and end" >&2
    kill -USR1 "$srun_pid" 2>/dev/null || true
}

# Ends the job: 0 is done, a stop on request is requeued, the rest is a failure. A lost node needs
# nothing here: srun waits for it until Slurm takes the job back and requeues it.
finish() { # CODE
    local code=$1
    if ((code == RESUME_CODE)) || [[ $code != 0 && $stop_asked ]]; then
        requeue "stopped on request (exit code $code)"
    fi
    exit "$code"
}

# A job that its owner cancelled, or that Slurm has already taken back, is no longer RUNNING:
# requeueing it would undo the cancelling.
requeue() { # REASON
    [[ $(squeue -h -j "$SLURM_JOB_ID" -o %T) == RUNNING ]] || return 0
    echo "$(date +%T) $1: requeueing job $SLURM_JOB_ID" >&2
    scontrol requeue "$SLURM_JOB_ID" || return 0
    sleep 300 & # Slurm ends this script within seconds; ending first would look like a failure
    wait $!
}
