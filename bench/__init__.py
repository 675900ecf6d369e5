# SPDX-License-Identifier: Apache-2.0
"""Measure the runner against a C echo on the same socket with the same frames. See docs/internals/performance.md."""
