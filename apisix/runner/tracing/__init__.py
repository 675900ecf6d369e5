# SPDX-License-Identifier: Apache-2.0
"""
Make OpenTelemetry spans of calls and plugins, and export them. Nothing here is imported unless `tracing.enabled` is set.

It imports packages up to `call`, and OpenTelemetry, which the extra `tracing` installs.

- `listener`: starts and ends the spans of a call. Start reading here.
- `attributes`: the names of attributes, and the attributes of a call.
- `provider`: checks that OpenTelemetry is installed, and sets up and closes the export in a worker.
"""
