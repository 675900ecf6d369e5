# SPDX-License-Identifier: Apache-2.0
"""Mutation testing of the runner, outside of `make test`: `make mutants`. It may import anything; start reading at `__main__`."""
