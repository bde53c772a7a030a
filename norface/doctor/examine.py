"""All checks in a row."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from norface.doctor.base import DoctorConfig, Finding, look
from norface.doctor.inputs import check_inputs
from norface.doctor.machine import check_memory, check_packages, describe_devices, read_versions
from norface.doctor.places import check_root, check_tracking
from norface.doctor.ranks import measure_all_reduce, measure_skew
from norface.errors import NorfaceError
from norface.training.backends.base import Backend
from norface.training.run import running_backend


def examine(config: DoctorConfig, tell: Callable[[Finding], None]) -> bool:
    """Whether all is well. All ranks call it and get the same answer; rank 0 tells the findings.

    What belongs to a machine is looked at by the first rank of each, everything else by all.
    """
    well, is_main = True, True

    def note(findings: Iterable[Finding]) -> None:
        nonlocal well
        for finding in findings:
            well = well and finding.state != "failed"
            if is_main:
                tell(finding)

    try:
        with running_backend(config.backend) as backend:
            is_main = backend.is_main
            hosts = backend.gather_objects(socket.gethostname())
            first = hosts.index(hosts[backend.rank]) == backend.rank
            versions = backend.gather_objects(read_versions())

            def ask(check: str, work: Callable[[], str | None], *, here: bool = True) -> None:
                note(gather(backend, hosts, [look(check, work)] if here else []))

            ask("packages", lambda: check_packages(versions, config.backend))
            ask("device", lambda: describe_devices(backend))
            ask("memory", check_memory, here=first)
            for check, work in (("ranks", measure_all_reduce), ("clocks", measure_skew)):
                note(gather(backend, hosts, [look(check, partial(work, backend), "one rank")]))
            ask("disk", lambda: check_root(config.root), here=first)
            ask("tracking", lambda: check_tracking(config.tracking, config.root), here=first)
            note(gather(backend, hosts, list(check_inputs(config)) if first else []))
    except NorfaceError as error:
        note([Finding(check="ranks", state="failed", found=str(error))])
    return well


def gather(backend: Backend, hosts: Sequence[str], mine: list[Finding]) -> list[Finding]:
    """Rank 0's findings, then what failed elsewhere and not there, with rank and machine named.

    All ranks call it and get the same.
    """
    every = backend.gather_objects(mine)
    shown = list(every[0])
    elsewhere: dict[tuple[str, str], list[int]] = {}
    for rank, findings in enumerate(every):
        for one in findings:
            if one.state == "failed" and one not in every[0]:
                elsewhere.setdefault((one.check, one.found), []).append(rank)
    for (check, found), ranks in elsewhere.items():
        named = ", ".join(f"{rank} ({hosts[rank]})" for rank in ranks[:8])
        more = f" and {len(ranks) - 8} more" if len(ranks) > 8 else ""
        shown.append(Finding(check=check, state="failed", found=f"rank {named}{more}: {found}"))
    return shown
