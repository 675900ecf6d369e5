# SPDX-License-Identifier: Apache-2.0
"""
Metrics: counted in each worker, added up in the supervisor, and served to Prometheus.

- `families`: a metric with its values, and the sums over all workers, including those that have exited. Start reading here.
- `collecting`: runs in a worker. Defines the worker's metrics, and sends those that have changed to the supervisor. To add a metric of
  calls or plugins, count in `call/observing/meter.py` and define the metric here.
- `page`: the pages /metrics and /health.
- `http_end`: the small HTTP server of the supervisor that serves the pages.

May import: `errors` to `call`, `settings`, `logging`. The metrics that the supervisor counts itself are defined in `supervisor/status.py`.
"""
