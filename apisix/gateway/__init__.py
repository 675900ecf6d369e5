# SPDX-License-Identifier: Apache-2.0
"""The development gateway: HTTP in, the runner's protocol out, and in between what Apache APISIX does."""
