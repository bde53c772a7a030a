"""Whether this machine is fit to train: packages, device, memory, all-reduce of ranks, clocks,
disk, tracking server; with a config, its shards, normalized sets and critics too. A line each; one
that failed says what to do. Changes nothing.

Ends with 0 when all is well, with 1 when something failed.

Example:
  norface doctor
  norface doctor -c configs/nor/pretrain.yaml data.shards=[shards/celeba]
  python -m launchers.local --ranks 2 -- doctor -c configs/nor/pretrain.yaml
"""

from __future__ import annotations

import argparse
import json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("-c", "--config", metavar="FILE", help="yaml of any stage or of crossval")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="changes to the config")
    parser.add_argument("--json", action="store_true", help="print the findings as json")


def run(arguments: argparse.Namespace) -> int:
    """Look at everything; 1 when something failed."""
    from norface.config import load_config
    from norface.doctor.base import DoctorConfig, Finding
    from norface.doctor.examine import examine

    config = load_config(DoctorConfig, arguments.config, arguments.overrides)
    findings: list[Finding] = []

    def tell(finding: Finding) -> None:
        findings.append(finding)
        if not arguments.json:
            print(f"{finding.check:<11}{finding.state:<8}{finding.found}", flush=True)

    well = examine(config, tell)
    if arguments.json and findings:
        values = [one.model_dump() for one in findings]
        print(json.dumps({"well": well, "findings": values}, indent=2))
    return 0 if well else 1
