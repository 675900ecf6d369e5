# SPDX-License-Identifier: Apache-2.0
"""The built-in sample plugins. They are always loaded, and a user's plugin of the same name replaces them."""
