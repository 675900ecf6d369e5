# SPDX-License-Identifier: Apache-2.0
"""Plugins of both legacy APIs that run an event loop through another module."""

import event_loops

from apisix.runner.plugin.base import Base
from apisix.runner.plugin.core import PluginBase


class RunsInFilter(PluginBase):
    """Run it in `filter`."""

    def name(self):
        return "runs-in-filter"

    def filter(self, conf, request, response):
        response.set_body(event_loops.greeting())


class RunsInConfig(PluginBase):
    """Run it in `config`."""

    def name(self):
        return "runs-in-config"

    def config(self, conf):
        return event_loops.greeting_of_new_loop()

    def filter(self, conf, request, response):
        response.set_body(conf)


class Runs(Base):
    """Run it, and raise another error if that fails."""

    def filter(self, request, response):
        try:
            response.body = event_loops.greeting()
        except RuntimeError as error:
            raise ValueError("no greeting") from error
        self.stop()


class Forbids(PluginBase):
    """Declare that the plugin must not run in threads."""

    blocking = False

    def name(self):
        return "forbids"

    def filter(self, conf, request, response):
        response.set_body(event_loops.greeting())
