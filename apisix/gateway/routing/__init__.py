# SPDX-License-Identifier: Apache-2.0
"""
Routes and upstreams: their definitions, the stand-alone file, the admin API, and which route a request matches.

Start reading in `routes.py`.
"""
