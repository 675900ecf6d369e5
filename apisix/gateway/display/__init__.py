# SPDX-License-Identifier: Apache-2.0
"""
What `dev` prints about each request.

Start reading in `report.py`.
"""
