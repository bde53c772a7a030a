"""What is asked of a cluster: forms of time, quoting, and what does not belong in a file."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from launchers.cluster import ClusterConfig, job_environment, sbatch_options, setup_lines
from norface.config import load_config
from norface.errors import ConfigError

CONFIGS = sorted((Path(__file__).parents[2] / "configs" / "cluster").glob("*.yaml"))
NASTY = "a b'; touch /tmp/pwned; $(id) `id` \\"


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("90", 90), ("90:30", 91), ("24:00:00", 1440), ("1:00:01", 61), ("2-12", 3600),
     ("1-00:30", 1470), ("0-00:00:59", 1)],
)  # fmt: skip
def test_times_are_read_as_slurm_reads_them(text, minutes):
    assert ClusterConfig(time=text).minutes == minutes


def test_what_is_set_becomes_an_option_and_the_rest_is_the_clusters_choice():
    config = ClusterConfig(nodes=4, gpus_per_node=8, cpus_per_rank=6, memory="64G", qos="long")
    assert sbatch_options(config) == [
        "--nodes=4", "--ntasks-per-node=1", "--cpus-per-task=48", "--gpus-per-node=8", "--mem=64G",
        "--time=1-00:00:00", "--qos=long", "--signal=B:USR1@180",
    ]  # fmt: skip
    # Thirty seconds stay to requeue the job after the ranks have ended.
    assert job_environment(config) == {"NORFACE_RANKS_PER_NODE": "8", "NORFACE_GRACE_S": "150"}


def test_values_are_words_whatever_they_hold(tmp_path):
    config = ClusterConfig(
        partition=NASTY, exports={"A": NASTY, "B": "$HOME"}, modules=[NASTY], container=NASTY
    )
    assert f"--partition={NASTY}" in sbatch_options(config)
    script = tmp_path / "setup.sh"
    script.write_text(
        "module() { printf '%s|' \"$@\"; }\n"
        + "\n".join(setup_lines(config))
        + '\nprintf \'%s|\' "$A" "$B" "$NORFACE_CONTAINER"\n'
    )
    said = subprocess.run(["bash", script], capture_output=True, text=True, check=True).stdout
    assert said == f"load|{NASTY}|{NASTY}|$HOME|{NASTY}|"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        # The second line would be a command of the script.
        (['partition="a\\ntouch /tmp/pwned"'], "'partition': .*one line of printable"),
        (["time=24:00:00"], "yaml took it for a number; put it in quotes"),
        (["time='a day'"], "expected minutes, HH:MM:SS or D-HH:MM:SS"),
        (["exports.HF_TOKEN=abc"], "'exports.HF_TOKEN' looks like a secret"),
        (["exports={'A B': c}"], "'exports.A B' is no name of a variable"),
        (["nods=2"], "did you mean 'nodes'"),
    ],
)
def test_a_wrong_setting_is_refused_with_what_to_do(settings, said):
    with pytest.raises(ConfigError, match=said) as refused:
        load_config(ClusterConfig, None, settings)
    assert "abc" not in str(refused.value)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_files_are_valid_and_say_nothing_of_one_cluster(path):
    config = load_config(ClusterConfig, path)
    assert config.partition is config.account is config.qos is None
