"""Faults on purpose: processes killed, disks filled, files harmed, and what must hold of the index after each."""

from benchmarks.faults.report import Failure, FaultReport
from benchmarks.faults.rounds import run_faults

__all__ = ["Failure", "FaultReport", "run_faults"]
