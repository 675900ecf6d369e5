# SPDX-License-Identifier: Apache-2.0
"""
The settings of the runner.

Each setting is one row of the table in `table.py`: its name, kind, default and description. `loading.py` loads the settings. `kinds.py`
converts the text of a setting to its value. `file.py` and `plain_yaml.py` read the configuration file. Start reading in `table.py`.

May import: `errors`.
"""
