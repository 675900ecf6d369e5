# SPDX-License-Identifier: Apache-2.0
"""
The log of the runner and its plugins.

- `setup`: configures the log, for each process. Start reading here.
- `call_fields`: the fields of a line that describe the call that is running.
- `repeat_limit`: limits how often the same warning or error is written.
- `captured`: turns the output of `print` into log records.
- `tracebacks`: formats tracebacks, without the frames of the runner.
- `lean_structlog`: imports the parts of structlog that the log needs.

May import: `errors`, `settings`.
"""
