# SPDX-License-Identifier: Apache-2.0
"""The built-in plugins, which are always loaded. A user's plugin of the same name replaces one of them."""
