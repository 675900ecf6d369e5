# SPDX-License-Identifier: Apache-2.0
"""
The legacy APIs: `Base` of release 0.1 and `PluginBase` of release 0.2, with their requests, responses and dicts.

Everything is an adapter over the new `Request` and `Response`. The import paths of these releases re-export what is here.
May import: `errors`, `wire`, `http`, `plugin`. Start reading in `hooks.py`.
"""
