# SPDX-License-Identifier: Apache-2.0
"""What `apisix-runner doctor` looks at, one module a subject. Each looks and changes nothing."""
