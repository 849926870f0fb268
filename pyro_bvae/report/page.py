"""HTML in small pieces: everything escaped, pictures and style inside, nothing fetched."""

import base64
import io
import struct
from collections.abc import Callable, Iterable, Sequence
from html import escape
from string import Template

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

_DPI = 192
_PIXELS_PER_INCH = 120

_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root { color-scheme: light; }
body { margin: 0 auto; max-width: 60rem; padding: 1rem; background: #fff; color: #22262b;
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: .5rem 0 1rem; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .5rem; padding-top: .6rem;
  border-top: 1px solid #d5d9de; }
p, ul { max-width: 44rem; margin: .6rem 0; }
ul { padding-left: 1.3rem; }
figure { margin: .8rem 0; }
img { display: block; max-width: 100%; height: auto; }
.side { display: flex; flex-wrap: wrap; gap: 0 1rem; }
.side figure { flex: 1 1 17rem; max-width: 26rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: .8rem 0; font-size: .95rem; }
th, td { padding: .25rem .9rem .25rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid #e6e9ec; }
td:first-child { white-space: nowrap; }
td:last-child { overflow-wrap: anywhere; }
th { font-weight: 600; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums;
  white-space: nowrap; }
.numbers { display: flex; flex-wrap: wrap; gap: .5rem 2rem; margin: 1rem 0; padding: 0;
  list-style: none; max-width: none; }
.numbers strong { display: block; font-size: 1.5rem; line-height: 1.2; }
@media (max-width: 40rem) { table { font-size: .85rem; } th, td { padding-right: .6rem; } }
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  img { max-height: 10cm; max-width: 100%; width: auto; }
  section > figure { max-width: 13cm; }
  .side figure { flex-basis: 5cm; }
  figure, tr, li { break-inside: avoid; }
  h2 { break-after: avoid; }
}
</style>
</head>
<body>
<main>
<h1>$title</h1>
$body
</main>
</body>
</html>
""")


def page(title: str, parts: Iterable[str]) -> str:
    """Return the whole document."""
    return _PAGE.substitute(title=escape(title), body="\n".join(parts))


def section(heading: str, *parts: str) -> str:
    """Return a section under its heading."""
    return "\n".join(["<section>", f"<h2>{escape(heading)}</h2>", *parts, "</section>"])


def paragraph(*sentences: str) -> str:
    """Return sentences as one paragraph; nothing if there is none.

    >>> paragraph("a < b.", "", "c.")
    '<p>a &lt; b. c.</p>'
    """
    text = " ".join(sentence for sentence in sentences if sentence)
    return f"<p>{escape(text)}</p>" if text else ""


def bullets(items: Iterable[str]) -> str:
    """Return items as a list; nothing if there is none."""
    entries = "".join(f"<li>{escape(item)}</li>" for item in items)
    return f"<ul>{entries}</ul>" if entries else ""


def numbers(items: Iterable[tuple[str, str]]) -> str:
    """Return numbers, each large with its name below."""
    entries = (f"<li><strong>{escape(n)}</strong>{escape(name)}</li>" for n, name in items)
    return f'<ul class="numbers">{"".join(entries)}</ul>'


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, texts: int = 1) -> str:
    """Return a table; its first `texts` columns are text, the rest numbers, set to the right."""

    def cells(tag: str, values: Sequence[str]) -> str:
        kinds = ["" if j < texts else ' class="number"' for j in range(len(values))]
        pairs = zip(kinds, values, strict=True)
        return "<tr>" + "".join(f"<{tag}{k}>{escape(v)}</{tag}>" for k, v in pairs) + "</tr>"

    head = f"<thead>{cells('th', header)}</thead>"
    body = f"<tbody>{''.join(cells('td', row) for row in rows)}</tbody>"
    return f'<div class="scroll"><table>{head}{body}</table></div>'


def side_by_side(figures: Iterable[str]) -> str:
    """Return figures next to each other, where there is room."""
    return f'<div class="side">{"".join(figures)}</div>'


def picture(draw: Callable[[], Axes], description: str) -> str:
    """Draw with matplotlib's own defaults and return the picture, inlined as PNG.

    `description` is read by those who do not see it. No figure is left behind or shown.
    """
    with plt.ioff(), plt.style.context("default"):
        figure = draw().get_figure(root=True)
        if figure is None:
            raise ValueError("draw: expected axes on a figure, got axes that were removed")
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=_DPI, bbox_inches="tight", pad_inches=0.05)
        plt.close(figure)
    png = stream.getvalue()
    data = base64.b64encode(png).decode("ascii")
    width, height = (round(n * _PIXELS_PER_INCH / _DPI) for n in struct.unpack(">II", png[16:24]))
    return (
        f'<figure><img src="data:image/png;base64,{data}" width="{width}" '
        f'height="{height}" alt="{escape(description)}"></figure>'
    )
