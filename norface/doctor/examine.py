"""All checks in a row."""

from __future__ import annotations

from collections.abc import Callable

from norface.doctor.base import DoctorConfig, Finding, look
from norface.doctor.inputs import check_inputs
from norface.doctor.machine import check_memory, check_packages, describe_devices, read_versions
from norface.doctor.places import check_root, check_tracking
from norface.doctor.ranks import measure_all_reduce, measure_skew
from norface.errors import NorfaceError
from norface.training.run import running_backend


def examine(config: DoctorConfig, tell: Callable[[Finding], None]) -> bool:
    """Whether all is well. All ranks call it and get the same answer; rank 0 tells the findings."""
    well = True

    def note(finding: Finding) -> None:
        nonlocal well
        well = well and finding.state != "failed"
        if is_main:
            tell(finding)

    is_main = True
    try:
        with running_backend(config.backend) as backend:
            is_main = backend.is_main
            versions = backend.gather_objects(read_versions())
            note(look("packages", lambda: check_packages(versions, config.backend)))
            note(look("device", lambda: describe_devices(backend)))
            note(look("memory", check_memory))
            note(look("ranks", lambda: measure_all_reduce(backend), "one rank"))
            note(look("clocks", lambda: measure_skew(backend), "one rank"))
            if is_main:
                note(look("disk", lambda: check_root(config.root)))
                note(look("tracking", lambda: check_tracking(config.tracking, config.root)))
                for finding in check_inputs(config):
                    note(finding)
            well = all(backend.gather_objects(well))
    except NorfaceError as error:
        note(Finding(check="ranks", state="failed", found=str(error)))
    return well
