# SPDX-License-Identifier: Apache-2.0
"""The processes of the runner, their socket and their connections."""
