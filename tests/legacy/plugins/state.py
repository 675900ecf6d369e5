# SPDX-License-Identifier: Apache-2.0
"""Plugins of the legacy APIs that store values in attributes."""

import json
import time

from apisix.runner.plugin.core import PluginBase


class Guard(PluginBase):
    """Let a request pass if it contains the key. The decision is stored in an attribute."""

    def __init__(self):
        self.allowed = False

    def name(self):
        return "guard"

    def filter(self, conf, request, response):
        if request.get_header("x-key") == "right":
            self.allowed = True
        if not self.allowed:
            response.set_status_code(401)
            response.set_body("who are you?")


class Remembers(PluginBase):
    """Store the user in an attribute, and wait for the gateway or in a thread."""

    def name(self):
        return "remembers"

    def config(self, conf):
        return conf

    def filter(self, conf, request, response):
        self.user = request.get_header("x-in")
        if conf == "sleep":
            time.sleep(0.15)  # long enough for the runner to move the plugin to threads
        else:
            request.get_body()
        request.set_header("x-user", self.user)


class Collects(PluginBase):
    """Change what `config` returned, and a list that `config` made."""

    def name(self):
        return "collects"

    def config(self, conf):
        self.errors = []
        return json.loads(conf)

    def filter(self, conf, request, response):
        self.errors.append(request.get_uri())
        conf["seen"] = conf.get("seen", 0) + 1
        request.set_header("x-errors", str(len(self.errors)))
        request.set_header("x-seen", str(conf["seen"]))


class Fails(PluginBase):
    """Raise an error when the plugin is created the first time, with the configuration in the message."""

    made = 0

    def name(self):
        return "fails"

    def config(self, conf):
        Fails.made += 1
        if Fails.made == 1:
            raise ValueError(f"can't read {conf}")

    def filter(self, conf, request, response):
        pass
