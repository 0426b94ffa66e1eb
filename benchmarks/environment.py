"""The machine that a benchmark ran on, as the result files record it."""

import platform
from datetime import UTC, datetime
from typing import Any

import psutil


def machine() -> dict[str, Any]:
    """Return the date, the processors, the memory and the system of this machine."""
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "processors": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 1024**3, 1),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
    }


def load_average() -> float:
    """Return the mean number of processes that wanted a processor in the last five minutes, including the benchmark."""
    return float(round(psutil.getloadavg()[1], 2))
