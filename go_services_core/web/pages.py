"""HTML pages that load nothing, run nothing and show only what was escaped."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from html import escape
from typing import Final

STYLE: Final = """\
:root{color-scheme:light dark;--ink:#1c2330;--dim:#5d6779;--line:#d9dee7;--card:#fff;--back:#f4f6f9;--good:#197a43;
--bad:#b3261e;--warn:#8a5a00}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ef;--dim:#9aa4b5;--line:#343c4a;--card:#1d232d;--back:#12161d;
--good:#5fcf8d;--bad:#ff8a80;--warn:#e9b44c}}
*{box-sizing:border-box}
body{margin:0;padding:2rem 1rem;background:var(--back);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:64rem;margin:0 auto}
main.short{max-width:32rem;margin-top:12vh;padding:2rem;background:var(--card);border:1px solid var(--line);
border-radius:.75rem}
h1{margin:0 0 .5rem;font-size:1.5rem;line-height:1.25}
h2{margin:2rem 0 .5rem;font-size:1.1rem}
p{margin:.5rem 0;overflow-wrap:anywhere}
.dim{color:var(--dim)}.good{color:var(--good)}.bad{color:var(--bad)}.warn{color:var(--warn)}
.wide{overflow-x:auto;background:var(--card);border:1px solid var(--line);border-radius:.5rem}
table{width:100%;border-collapse:collapse;font-size:.9rem}
th,td{padding:.5rem .75rem;text-align:left;vertical-align:top;border-bottom:1px solid var(--line)}
tr:last-child td{border-bottom:0}
th{color:var(--dim);font-weight:600;white-space:nowrap}
td.number,th.number{text-align:right;font-variant-numeric:tabular-nums}
code{font:.85em ui-monospace,monospace;overflow-wrap:anywhere}
"""
_HASH: Final = b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY: Final = f"default-src 'none'; style-src 'sha256-{_HASH}'; frame-ancestors 'none'; base-uri 'none'"
"""Of every page: its own style and nothing else (CSP Level 3 §6.7.3.3)."""
_PAGE: Final = """\
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>{title}</title><style>{style}</style></head>
<body>{content}</body></html>
"""


def page(title: str, content: str) -> bytes:
    """A whole page; ``content`` is HTML, ``title`` is text."""
    return _PAGE.format(title=escape(title), style=STYLE, content=content).encode()


def message_page(title: str, *paragraphs: str) -> bytes:
    """A page that says one thing; all of it is text."""
    text = "".join(f"<p>{escape(one)}</p>" for one in paragraphs)
    return page(title, f'<main class="short"><h1>{escape(title)}</h1>{text}</main>')
