"""Two charts, written as SVG without any package: bars of ratios, and cost against number.

Both draw on a white ground, so that they read the same on a light and on a dark page.
"""

from html import escape

FONT = 'font-family="Helvetica, Arial, sans-serif"'
INK, FAINT, GRID = "#222222", "#777777", "#dddddd"
BETTER, WORSE, BOUND = "#2b8a5a", "#c8553d", "#222222"
LINES = ["#2b8a5a", "#1f6fb2", "#c8553d", "#8250a8", "#b38600"]


class Svg:
    def __init__(self, width, height):
        self.size = width, height
        self.parts = [f'<rect width="{width}" height="{height}" fill="#ffffff"/>']

    def text(self, x, y, text, size=12, color=INK, anchor="start", weight="normal"):
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{color}" text-anchor="{anchor}" '
                          f'font-weight="{weight}" {FONT}>{escape(text)}</text>')

    def rect(self, x, y, width, height, color):
        self.parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.5):.1f}" height="{height:.1f}" '
                          f'fill="{color}"/>')

    def line(self, x1, y1, x2, y2, color=GRID, width=1, dash=None):
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{color}" '
                          f'stroke-width="{width}"{dashed}/>')

    def path(self, points, color, dash=None):
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        xy = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(f'<polyline points="{xy}" fill="none" stroke="{color}" stroke-width="2"{dashed}/>')
        self.parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}"/>' for x, y in points]

    def write(self, path):
        width, height = self.size
        head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" ' \
               f'viewBox="0 0 {width} {height}">'
        path.write_text("\n".join([head, *self.parts, "</svg>"]) + "\n")


def bars(path, title, subtitle, rows, longest=1.5):
    """Bars of ratios, short is good. `rows`: (name, ratio, the bound's ratio or None, what stands behind the bar)."""
    left, right, row_height, top = 200, 250, 22, 84
    width, scale = 900, (900 - left - right) / longest
    height = top + row_height * len(rows) + 36
    svg = Svg(width, height)
    svg.text(20, 30, title, 18, weight="bold")
    svg.text(20, 50, subtitle, 12, FAINT)
    bottom = top + row_height * len(rows)
    for tick in [i / 4 for i in range(int(longest * 4) + 1)]:
        x = left + tick * scale
        svg.line(x, top - 6, x, bottom, INK if tick == 1 else GRID, 1.5 if tick == 1 else 1)
        svg.text(x, top - 12, "best peer" if tick == 1 else f"{tick:g}", 11, INK if tick == 1 else FAINT, "middle")
    for i, (name, ratio, bound, after) in enumerate(rows):
        y = top + i * row_height
        svg.text(left - 8, y + 15, name, 12, anchor="end")
        shown = min(ratio, longest)
        svg.rect(left, y + 4, shown * scale, row_height - 8, BETTER if ratio < 1 else WORSE)
        if bound is not None and bound <= longest:
            x = left + bound * scale
            svg.line(x, y + 2, x, y + row_height - 2, BOUND, 2)
        # A bar that is cut off says so.
        edge = left + longest * scale
        svg.text(edge + 8, y + 15, "»" if ratio > longest else "", 12, WORSE)
        svg.text(edge + 52, y + 15, f"{ratio:.2f}", 12, anchor="end", weight="bold")
        svg.text(edge + 62, y + 15, after, 11, FAINT)
    svg.text(left, bottom + 22, "Black mark: the bound that goby has set itself.", 11, FAINT)
    svg.write(path)


def curves(path, title, subtitle, panels):
    """Cost against number, both logarithmic. `panels`: (name, [(label, color index, dash, {n: ns})])."""
    from math import ceil, floor, log10
    across, cell_width, cell_height, top = 3, 300, 250, 66
    down = -(-len(panels) // across)
    svg = Svg(across * cell_width + 20, top + down * cell_height + 10)
    svg.text(20, 30, title, 18, weight="bold")
    svg.text(20, 50, subtitle, 12, FAINT)
    for i, (name, lines) in enumerate(panels):
        x0, y0 = 20 + i % across * cell_width + 44, top + i // across * cell_height + 34
        w, h = cell_width - 70, cell_height - 74
        ns = [n for _, _, _, values in lines for n in values]
        ys = [v for _, _, _, values in lines for v in values.values() if v > 0]
        if not ys:
            continue
        low, high = floor(log10(min(ys))), ceil(log10(max(ys)) + 1e-9)
        low, high = (low - 1, high) if high - low < 2 else (low, high)
        x_low, x_high = log10(min(ns)), log10(max(ns))

        def at(n, v):
            return x0 + (log10(n) - x_low) / (x_high - x_low) * w, y0 + h - (log10(v) - low) / (high - low) * h

        svg.text(x0, y0 - 14, name, 13, weight="bold")
        for e in range(low, high + 1):
            y = at(min(ns), 10 ** e)[1]
            svg.line(x0, y, x0 + w, y)
            svg.text(x0 - 6, y + 4, f"{10 ** e:g}", 10, FAINT, "end")
        for n in sorted(set(ns)):
            x = at(n, 10 ** low)[0]
            svg.line(x, y0, x, y0 + h)
            short = f"{n // 1_000_000}M" if n >= 1_000_000 else f"{n // 1000}k" if n >= 1000 else str(n)
            svg.text(x, y0 + h + 14, short, 10, FAINT, "middle")
        for k, (label, color, dash, values) in enumerate(lines):
            points = [at(n, v) for n, v in sorted(values.items()) if v > 0]
            svg.path(points, LINES[color], dash)
            svg.line(x0 + k * 70, y0 + h + 27, x0 + k * 70 + 18, y0 + h + 27, LINES[color], 2, dash)
            svg.text(x0 + k * 70 + 22, y0 + h + 31, label, 11)
    svg.write(path)
