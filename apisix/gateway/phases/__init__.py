# SPDX-License-Identifier: Apache-2.0
"""
What APISIX does with the replies of a runner, phase by phase, release by release.

Start reading in `phases.py`.
"""
