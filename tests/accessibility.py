"""What axe finds on a page that keeps people with a screen reader or a keyboard from using it."""

from __future__ import annotations

from typing import Any

import pytest


def serious_findings(page: Any) -> list[tuple[str, str, str]]:
    """Return the rule, the element and the explanation of each serious or critical finding.

    Source: axe-core, https://github.com/dequelabs/axe-core.
    """
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    return [
        (one["id"], one["nodes"][0]["html"], one["nodes"][0]["failureSummary"])
        for one in axe.Axe().run(page).response["violations"]
        if one["impact"] in ("serious", "critical")
    ]
