# SPDX-License-Identifier: Apache-2.0
"""The interface of a call for the modules that resume it: its greenlet, and the info requests of its connection."""

from abc import abstractmethod


class Resumable:
    """The base class of a call."""

    __slots__ = ()

    @abstractmethod
    def run_in_context(self) -> None:
        """Run the next steps of the call until it is finished or has to wait. Raises nothing."""

    @abstractmethod
    def was_suspended(self) -> bool:
        """Return True if the call has waited for something."""

    @abstractmethod
    def info_received(self, requests: object) -> None:
        """Called when all replies to info requests that were sent together have arrived. `requests` is an `InfoRequests`."""
