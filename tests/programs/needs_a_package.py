"""A program that imports a package that no machine has."""

from __future__ import annotations

import a_package_that_is_missing  # type: ignore[import-not-found]  # noqa: F401
