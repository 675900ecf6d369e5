# SPDX-License-Identifier: Apache-2.0
"""
The time by which calls are measured: monotonic, in seconds.

A module of its own because the accelerator has it twice: `clock.pxd` says the same in C, where no object is made of it.
"""

from time import perf_counter as now_s

__all__ = ["now_s"]
