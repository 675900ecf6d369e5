# SPDX-License-Identifier: Apache-2.0
from abc import ABCMeta

from multidict import MutableMultiMapping

class Interface(MutableMultiMapping[str], metaclass=ABCMeta): ...
