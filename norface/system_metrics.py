"""What a machine does while it trains: a line every few seconds in the run's system.jsonl.

Names are MLflow's own (`system/cpu_utilization_percentage`), so that its page of system metrics
shows them; like the run's metrics they are a file first, and so a node without network has them
too. `step` counts the lines, over all starts of a run.
"""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path
from typing import Any

from norface.metric_lines import append_line

SYSTEM_FILE = "system.jsonl"
MB = 1e6


class SystemMonitor:
    """Measures every `every_s` seconds until `stop`. What cannot be measured is left out."""

    def __init__(self, path: Path, every_s: float):
        # Here, not in the thread: reading processes may be forked while it would import.
        import psutil

        self.path, self.every_s = path, every_s
        self._step = count_lines(path)
        self._process = psutil.Process()
        self._network = psutil.net_io_counters()
        self._devices = open_devices()
        # The first answer of these is 0: they tell the share since they were asked last.
        psutil.cpu_percent()
        self._process.cpu_percent()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="system-metrics", daemon=True)
        self._thread.start()

    def _loop(self) -> None:
        while not self._ending.wait(self.every_s):
            # A full disk or a driver that went away must not end a training.
            with contextlib.suppress(Exception):
                self._write()

    def _write(self) -> None:
        values = self.measure()
        line = {"step": self._step, "time": round(time.time(), 3), **values}
        append_line(self.path, line)
        self._step += 1

    def measure(self) -> dict[str, float]:
        """The values now."""
        import psutil

        memory, network = psutil.virtual_memory(), psutil.net_io_counters()
        values = {
            "cpu_utilization_percentage": psutil.cpu_percent(),
            "system_memory_usage_megabytes": memory.used / MB,
            "system_memory_usage_percentage": memory.percent,
            "process_cpu_percentage": self._process.cpu_percent(),
            "process_memory_usage_megabytes": self._process.memory_info().rss / MB,
            "disk_usage_percentage": psutil.disk_usage(str(self.path.parent)).percent,
        }
        if network and self._network:
            values |= {
                "network_receive_megabytes": (network.bytes_recv - self._network.bytes_recv) / MB,
                "network_transmit_megabytes": (network.bytes_sent - self._network.bytes_sent) / MB,
            }
        for number, device in enumerate(self._devices):
            values |= measure_device(number, device)
        return {f"system/{name}": round(value, 3) for name, value in values.items()}

    def stop(self) -> None:
        """End after a last line."""
        self._ending.set()
        self._thread.join(5)
        with contextlib.suppress(Exception):
            self._write()


def count_lines(path: Path) -> int:
    """Lines of a file; 0 where there is none."""
    try:
        return path.read_bytes().count(b"\n")
    except OSError:
        return 0


def open_devices() -> list[Any]:
    """Handles of NVIDIA's devices, where its library (pynvml) is there."""
    try:
        import pynvml

        pynvml.nvmlInit()
        return [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
    except Exception:
        return []


def measure_device(number: int, device: Any) -> dict[str, float]:
    """Memory, utilization and power of one device."""
    import pynvml

    memory = pynvml.nvmlDeviceGetMemoryInfo(device)
    values = {
        "memory_usage_megabytes": memory.used / MB,
        "memory_usage_percentage": 100 * memory.used / memory.total,
        "utilization_percentage": float(pynvml.nvmlDeviceGetUtilizationRates(device).gpu),
    }
    with contextlib.suppress(pynvml.NVMLError):
        values["power_usage_watts"] = pynvml.nvmlDeviceGetPowerUsage(device) / 1000
    return {f"gpu_{number}_{name}": value for name, value in values.items()}
