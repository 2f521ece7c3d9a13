"""A template and values → the text of a page. No torch.

A room keeps its templates, scripts and styles in its folder `templates`. `asr/pages/templates` has what pages share:
the layout `page.html.jinja` and its style `page.css`. A page is one file that needs nothing from elsewhere: styles and
scripts are included in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from asr.files import printable, visible_json


def render(package: str, template: str, values: Mapping[str, Any]) -> str:
    """Return what a template says with these values.

    Values are escaped for HTML. The filter `printable` shows control characters as escapes. The filter `in_script`
    writes a value as JSON that a script element can hold.

    Args:
        package: the dotted name of the room that has the template in its folder `templates`.
        template: its file name, e.g. `report.html.jinja`.
        values: what the template names; a name that is missing here is an error.
    """
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    templates = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("asr.pages")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters["printable"] = printable
    templates.filters["in_script"] = _in_script
    return templates.get_template(template).render(values)


def _in_script(value: Any) -> Any:
    """Return JSON for a script element: no text in it can end the element or begin another."""
    from markupsafe import Markup

    text = visible_json(json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)
