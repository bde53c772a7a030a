# Shared by the job scripts of this folder; sourced, never submitted.
#
# A script that is started by hand queues itself: code and config are frozen in the run folder
# (launchers/snapshot.py), and the job runs those. `sbatch slurm/X.sh` works too, but reads code and
# config when the job starts.
#
# How a job goes: the batch script starts one task a rank through srun and waits. Slurm sends the
# script USR1 before the time limit and at preemption (or TERM to the ranks themselves); the ranks
# save at the same step and end with 75; the script requeues the job, which resumes by itself.

RESUME_CODE=75 # EX_TEMPFAIL: "saved as asked; start me again" (norface/training/preemption.py)
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
stop_asked="" passed_on="" child="" killer="" step="" stop_signal=USR1

die() {
    echo "${SLURM_JOB_NAME:-$(basename "$0")}: $*" >&2
    exit 2
}

# Modules, variables and container that launchers/cluster.py wrote beside the frozen code.
load_setup() {
    # From now on: a request that comes while nothing runs yet is a reason to requeue, not to die.
    [[ ! ${SLURM_JOB_ID:-} ]] || trap 'stop_asked=yes' USR1 USR2 TERM
    # shellcheck disable=SC1091
    if [[ -f $ROOT/setup.sh ]]; then source "$ROOT/setup.sh" || die "$ROOT/setup.sh failed"; fi
    # Seconds that ranks have to save once asked. Less than --signal's, so that time is left to
    # requeue; a cluster whose preemption kills earlier wants a smaller number.
    export NORFACE_GRACE_S=${NORFACE_GRACE_S:-150}
    SRUN=() PYTHON=("${NORFACE_VENV:-$ROOT/.venv}/bin/python")
    export PYTHONPATH=$ROOT${PYTHONPATH:+:$PYTHONPATH}
    export PYTHONSAFEPATH=1 # not the code in the folder where the job was submitted
    local mounts=$PWD,$ROOT${NORFACE_MOUNTS:+,$NORFACE_MOUNTS}
    if [[ ! ${NORFACE_CONTAINER:-} || ! ${SLURM_JOB_ID:-} ]]; then
        [[ -x ${PYTHON[0]} ]] ||
            die "no ${PYTHON[0]}; make .venv as README says, or set NORFACE_VENV to yours"
    elif [[ ${NORFACE_CONTAINER_RUNTIME:-apptainer} == apptainer ]]; then
        PYTHON=(apptainer exec --bind "$mounts" --pwd "$PWD")
        ((${SLURM_GPUS_ON_NODE:-0} == 0)) || PYTHON+=(--nv)
        PYTHON+=("$NORFACE_CONTAINER" python3)
    else
        local mount pairs=""
        for mount in ${mounts//,/ }; do
            if [[ $mount != *:* ]]; then mount=$mount:$mount; fi
            pairs+=${pairs:+,}$mount
        done
        SRUN=("--container-image=$NORFACE_CONTAINER" "--container-mounts=$pairs"
            "--container-workdir=$PWD")
        PYTHON=(python3)
    fi
}

# Splits the words of a script that was started by hand: options of sbatch come first, as --X=Y.
take_options() { # "$@"
    OPTIONS=() dry_run=""
    while [[ ${1:-} == -* ]]; do
        if [[ $1 == --dry-run ]]; then dry_run=yes; else OPTIONS+=("$1"); fi
        shift
    done
    WORDS=("$@")
}

# Queues a script with frozen code and config; its words are the frozen config, or those after --.
queue() { # SCRIPT NORFACE-COMMAND... [-- WORDS...]
    local script=$1 command=() words=() snapshot
    shift
    while (($#)) && [[ $1 != -- ]]; do
        command+=("$1")
        shift
    done
    snapshot=$("${PYTHON[@]}" -m launchers.snapshot ${dry_run:+--dry-run} "${command[@]}") || exit $?
    if (($#)); then words=("${@:2}"); else words=("$snapshot/config.yaml"); fi
    queue_frozen "$script" "$snapshot" "${words[@]}"
}

# Queues a script of a snapshot (launchers/snapshot.py, tune/freeze.py), or shows it.
queue_frozen() { # SCRIPT SNAPSHOT WORDS...
    local script=$1 snapshot=$2 words=("${@:3}") job
    if [[ $dry_run ]]; then
        printf '# sbatch --parsable' && printf ' %q' "${OPTIONS[@]}" "$snapshot/slurm/$script" \
            "${words[@]}" && echo && cat "$ROOT/slurm/$script"
        return
    fi
    job=$(sbatch --parsable "${OPTIONS[@]}" "$snapshot/slurm/$script" "${words[@]}") || exit 1
    echo "job $job; code and config frozen in $snapshot" >&2
    echo "$job"
}

# One stage of training: queues itself, or runs as the job.
train() { # STAGE SCRIPT DEFAULT-CONFIG "$@"
    local stage=$1 script=$2 config=$3
    take_options "${@:4}"
    if [[ ${WORDS[0]:-} && (-f ${WORDS[0]} || ${WORDS[0]} != *=*) ]]; then
        config=${WORDS[0]}
        WORDS=("${WORDS[@]:1}")
    fi
    [[ -f $config ]] || die "${config:-no config}: no such config file"
    load_setup
    if [[ ! ${SLURM_JOB_ID:-} ]]; then
        queue "$script" train "$stage" -c "$config" "${WORDS[@]}"
        return
    fi
    set_ranks
    echo "$(date +%T) job $SLURM_JOB_ID, start $((${SLURM_RESTART_COUNT:-0} + 1)):" \
        "$NORFACE_WORLD_SIZE ranks on $SLURM_JOB_NUM_NODES nodes, $config ${WORDS[*]}" >&2
    run_ranks train "$stage" -c "$config" "${WORDS[@]}"
    finish $?
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
    export NORFACE_WORLD_SIZE=$((SLURM_JOB_NUM_NODES * RANKS_PER_NODE)) NORFACE_JOB=$SLURM_JOB_ID
    MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
    MASTER_PORT=$(choose_port) || exit $?
    export MASTER_ADDR MASTER_PORT
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$CPUS_PER_RANK}
}

# A port of this node, the job's first, at which nobody listens. Below those that Linux hands out
# (32768), above those of Ray in tune.sh.
choose_port() {
    choose_ports 30000 32700 1 1 < <(show_sockets)
}

# This node's TCP sockets, as Linux lists them.
show_sockets() {
    cat /proc/net/tcp /proc/net/tcp6 2>/dev/null
}

# The first of COUNT ports in a row at which nobody listens on the nodes whose sockets are read from
# stdin. Looked at are FIRST, FIRST + STEP ... below END; jobs that share a node begin at different
# ones.
choose_ports() { # FIRST END STEP COUNT
    local -A taken=()
    local places=$((($2 - $1) / $3)) port next offset hex
    for hex in $(awk '$4 == "0A" {sub(/.*:/, "", $2); print $2}' | sort -u); do
        taken[$((16#$hex))]=yes
    done
    for ((next = 0; next < places; next++)); do
        port=$(($1 + (SLURM_JOB_ID + next) % places * $3))
        for ((offset = 0; offset < $4; offset++)); do
            [[ ! ${taken[$((port + offset))]:-} ]] || continue 2
        done
        echo "$port"
        return
    done
    die "no free ports between $1 and $2 on ${SLURM_JOB_NODELIST:-$(hostname)}"
}

# Sets PART, the I/N of this task of an array; tasks are counted from the first: 0-15 and 1-16 are
# the same sixteen parts. 1/1 without an array.
set_part() {
    PART=1/1
    [[ ${SLURM_ARRAY_TASK_COUNT:-} ]] || return 0
    PART=$((SLURM_ARRAY_TASK_ID - SLURM_ARRAY_TASK_MIN + 1))/$SLURM_ARRAY_TASK_COUNT
    ((SLURM_ARRAY_TASK_MAX - SLURM_ARRAY_TASK_MIN + 1 == SLURM_ARRAY_TASK_COUNT)) ||
        die "--array must be a whole range such as 0-15; to do what is left, leave --array out"
}

# Gives the coming srun another step number (`step`) than that of the start before. When a node
# dies, srun asks Slurm to kill the rest of the step; Slurm asks a node that does not answer again a
# minute later, and would so kill the step of the same number in the job's next start.
skip_steps() {
    for ((step = 0; step < ${SLURM_RESTART_COUNT:-0} % 4; step++)); do
        srun --nodes=1 --ntasks=1 true
    done
}

# Runs `norface ARGUMENTS` on every rank; USR1, USR2 and TERM to this script reach them as USR1.
run_ranks() { # ARGUMENTS...; returns the ranks' exit code
    stop_signal=USR1
    skip_steps
    run_and_wait srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$NORFACE_WORLD_SIZE" \
        --ntasks-per-node="$RANKS_PER_NODE" --cpus-per-task="$CPUS_PER_RANK" \
        --kill-on-bad-exit=1 "${SRUN[@]}" "${PYTHON[@]}" -m launchers.slurm_rank "$@"
}

# Runs `norface ARGUMENTS` once; what it has finished stays, so a stop may simply end it.
run_once() { # ARGUMENTS...; returns its exit code
    stop_signal=TERM
    local srun=()
    if ((${#SRUN[@]})); then srun=(srun --nodes=1 --ntasks=1 "${SRUN[@]}"); fi
    run_and_wait "${srun[@]}" "${PYTHON[@]}" -m norface "$@"
}

run_and_wait() { # COMMAND...; returns its exit code
    local code ended
    [[ ! $stop_asked ]] || return $RESUME_CODE
    "$@" &
    child=$!
    trap 'ask_to_stop' USR1 USR2 TERM
    # A request that came since the first line was only noted.
    [[ ! $stop_asked ]] || ask_to_stop
    # `wait` also returns when a trap has run, so the code that counts is that of a gone child.
    until
        wait "$child"
        code=$?
        ! kill -0 "$child" 2>/dev/null
    do :; done
    wait "$child"
    ended=$?
    ((ended == 127)) || code=$ended
    trap '' USR1 USR2 TERM
    return $code
}

# The command line of a process; empty where there is none.
words_of() { # PROCESS
    tr '\0' ' ' 2>/dev/null <"/proc/$1/cmdline"
}

# Waits until the child is no longer a copy of this script: until it runs its program, a signal to
# it would be lost in the traps that it has from here. Not for ever: a function never becomes one.
wait_for_program() {
    local tries
    for ((tries = 0; tries < 50; tries++)); do
        [[ $(words_of "$child") == "$(words_of $$)" ]] || return 0
        sleep 0.1
    done
}

# Passes the request on. Ranks that cannot save end themselves after NORFACE_GRACE_S; those that
# cannot even do that are killed, while there is time left to requeue.
ask_to_stop() {
    stop_asked=yes
    [[ ! $passed_on ]] || return 0
    passed_on=yes
    echo "$(date +%T) asked to stop: the ranks save and end" >&2
    wait_for_program
    kill -s "$stop_signal" "$child" 2>/dev/null || true
    (
        trap - USR1 USR2 TERM
        sleep "$((${NORFACE_GRACE_S%.*} + 10))"
        echo "$(date +%T) they did not: killed" >&2
        # The step alone: with KILL for all of its steps Slurm would take the job as cancelled.
        [[ ! $step ]] || scancel --signal=KILL "$SLURM_JOB_ID.$step"
        kill -s KILL "$child" 2>/dev/null
    ) &
    killer=$!
}

# Ends the job: 0 is done, a stop on request is requeued, the rest is a failure. A lost node needs
# nothing here: srun waits for it until Slurm takes the job back and requeues it.
finish() { # CODE
    local code=$1
    [[ ! $killer ]] || kill "$killer" 2>/dev/null # it would kill the job's next start
    if ((code == RESUME_CODE)) || [[ $code != 0 && $stop_asked ]]; then
        requeue "stopped on request (exit code $code)"
    fi
    exit "$code"
}

# A job that its owner cancelled, or that Slurm has already taken back, is no longer RUNNING:
# requeueing it would undo the cancelling.
requeue() { # REASON
    local job=$SLURM_JOB_ID
    [[ $(squeue -h -j "$job" -o %T) == RUNNING ]] || return 0
    echo "$(date +%T) $1: requeueing job $job" >&2
    scontrol requeue "$job" || return 0
    sleep 300 & # Slurm ends this script within seconds; ending first would look like a failure
    wait $!
}
