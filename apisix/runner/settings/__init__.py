# SPDX-License-Identifier: Apache-2.0
"""
The settings of the runner.

Each setting is one row of the table in `table`: its name, kind, default and description. `kinds` turns the text of a setting into its
value;
`file` and `plain_yaml` read the configuration file. May import: `errors`. Start reading in `table.py`.
"""
