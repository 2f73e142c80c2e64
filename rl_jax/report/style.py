"""The style sheet of the page: light and dark, phone and desk, no outside resource."""

CSS = """
:root {
  color-scheme: light dark;
  --page: #f6f7f8; --card: #fff; --text: #16191d; --muted: #59626d;
  --rule: #dfe3e7; --soft: #eef1f4; --good: #00704f; --bad: #b34700;
  --c0: #0072b2; --c1: #d55e00; --c2: #008a64; --c3: #b85c94;
  --c4: #c98500; --c5: #3a9fdc; --c6: #2b2f36; --c7: #938400; --base: #66707b;
  --base2: #848d97;
}
@media (prefers-color-scheme: dark) { :root {
  --page: #0f1216; --card: #171b21; --text: #e8ebee; --muted: #9ba5b1;
  --rule: #2c333c; --soft: #20262e; --good: #35c79b; --bad: #ff9a57;
  --c0: #4aa8e0; --c1: #f0772b; --c2: #1fb88d; --c3: #d98bba;
  --c4: #e69f00; --c5: #8fd0f7; --c6: #d5dae0; --c7: #f0e442; --base: #98a2ae;
  --base2: #808b98;
} }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
body {
  margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 74rem;
  background: var(--page); color: var(--text); overflow-wrap: break-word;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
  font-variant-numeric: tabular-nums;
}
h1 { font-size: clamp(1.6rem, 5vw, 2.4rem); line-height: 1.15; margin: .2rem 0 .6rem;
  letter-spacing: -.02em; text-wrap: balance; }
h2 { font-size: 1.35rem; letter-spacing: -.01em; margin: 3rem 0 .25rem; }
h3, h4 { font-size: 1rem; margin: 0; }
h3.group { font-size: 1.1rem; margin: 1.75rem 0 .75rem; color: var(--muted); }
p { margin: .35rem 0; max-width: 48rem; text-wrap: pretty; }
a { color: inherit; text-underline-offset: .2em; }
code, pre { font: .875em/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
pre { margin: .5rem 0; padding: .75rem 1rem; background: var(--soft);
  border-radius: 8px; overflow-x: auto; white-space: pre-wrap;
  overflow-wrap: anywhere; }
nav { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; margin-top: 1.25rem;
  padding-top: .75rem; border-top: 1px solid var(--rule); font-size: .925rem; }
.over { color: var(--muted); font-size: .875rem; }
.note { color: var(--muted); font-size: .925rem; }
.todo { border-left: 3px solid var(--c4); padding: .1rem 0 .1rem .75rem; }
h2 + .card, p + .card, .card.apart { margin-top: 1rem; }
.card { background: var(--card); border: 1px solid var(--rule); border-radius: 12px;
  padding: 1rem 1.1rem; min-width: 0; }
.grid { display: grid; gap: 1rem; margin: 1rem 0;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 20.5rem), 1fr)); }
.grid.wide { grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr));
  align-items: start; }
.flow { columns: 24rem; column-gap: 1rem; margin: .75rem 0 0; }
.flow > * { break-inside: avoid; margin: 0 0 1rem; }
.flow > .across, .flow > :only-child { column-span: all; }
.flow > * + .across { margin-top: 1rem; }
.halves { display: grid; gap: 1rem 2rem; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); }
.thirds { display: grid; gap: 1rem 1.5rem; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 17rem), 1fr)); }
.thirds > * { min-width: 0; max-width: 26rem; }
.thirds .chart.wide text { font-size: 12px; }
.minis { display: grid; gap: .4rem .6rem; margin: .2rem 0 .6rem;
  grid-template-columns: repeat(4, 1fr); }
.minis figure { margin: 0; min-width: 0; }
.minis figcaption { font-size: .78rem; overflow: hidden; text-overflow: ellipsis;
  white-space: nowrap; }
.prose tbody th { white-space: normal; min-width: 7.5rem; }
.across.prose tbody th { min-width: 11rem; }
.prose td, .prose th { vertical-align: top; padding-left: .45rem;
  padding-right: .45rem; }
.hero { display: grid; gap: 1.25rem 2.5rem; margin: 1.25rem 0 0; align-items: center;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 19rem), 1fr)); }
.big { font-size: clamp(3rem, 11vw, 4.5rem); font-weight: 700; line-height: 1;
  letter-spacing: -.035em; color: var(--c0); white-space: nowrap; }
.big small { font-size: .36em; font-weight: 500; letter-spacing: 0;
  color: var(--muted); }
.meter { display: grid; grid-template-columns: 9.5rem 1fr 6.4rem; gap: 0 .75rem;
  align-items: center; margin: .3rem 0; font-size: .925rem; }
.meter i { display: block; height: .7rem; border-radius: 4px; min-width: 2px; }
.meter b, .meter span:last-child { text-align: right; }
.pill { display: inline-block; border: 1.5px solid; border-radius: 99px;
  padding: .05rem .7rem; font-size: .925rem; font-weight: 600; }
.good { color: var(--good); } .bad { color: var(--bad); }
.chart { display: block; width: 100%; max-width: 34rem; height: auto;
  margin: 0 auto; overflow: visible; }
.chart text { font-size: 12px; fill: var(--muted); }
.chart .line { fill: none; stroke-width: 1.75; stroke-linejoin: round; }
.chart .thin { stroke-width: 1.25; opacity: .75; }
.chart .faint { stroke-width: 1; opacity: .35; }
.chart .bar { stroke-width: 1.5; }
.grid path.grid, path.grid { stroke: var(--rule); stroke-width: 1; }
path.tick { stroke: var(--base); } path.lead { stroke: var(--rule); fill: none; }
.chart .line.base2, .swatch .line.base2 { stroke-dasharray: 2 3; }
path.reference { stroke: var(--muted); stroke-dasharray: 4 3; }
rect.plus { fill: var(--c0); } rect.minus { fill: var(--c1); }
.chart text.cell { fill: var(--text); text-anchor: middle; }
.chart .area { fill-opacity: .16; stroke-width: 1.5; stroke-linejoin: round; }
.chart image { image-rendering: pixelated; }
.chart .area.dashed { stroke-dasharray: 4 3; fill: none; }
.stroke { stroke-width: 2; } .stroke.base2 { stroke-dasharray: 3 2; }
path.halo { stroke: var(--card); stroke-width: 4; }
.chart text.over { stroke: var(--card); stroke-width: 3px; paint-order: stroke; }
rect.frame { fill: none; stroke: var(--rule); }
.mark { stroke: var(--card); stroke-width: .35; }
.chart text.name { font-weight: 600; }
.chart.wide text { font-size: 9.5px; }
.chart .centre { font-weight: 700; text-anchor: middle; fill: var(--text);
  stroke: var(--card); stroke-width: 4px; paint-order: stroke;
  stroke-linejoin: round; }
.swatch { width: .9em; height: .9em; vertical-align: -.1em; margin-right: .35em; }
.swatch .line { stroke-width: 3; }
.head { display: flex; flex-wrap: wrap; gap: 0 .75rem; align-items: baseline;
  justify-content: space-between; margin-bottom: .4rem; }
.head b { font-size: 1.05rem; }
.legend { display: flex; flex-wrap: wrap; gap: .1rem .95rem; margin: .4rem 0;
  padding: 0; list-style: none; font-size: .875rem; }
.scroll { overflow-x: auto; margin: .75rem 0; -webkit-overflow-scrolling: touch; }
table { border-collapse: collapse; width: 100%; font-size: .925rem; }
caption { text-align: left; font-weight: 600; padding-bottom: .4rem; }
th, td { padding: .38rem .7rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--rule); vertical-align: baseline; }
th { font-weight: 600; } thead th { color: var(--muted); font-size: .85rem; }
tr > :first-child { text-align: left; padding-left: 0; }
thead tr + tr > :first-child { text-align: right; padding-left: .7rem; }
tr > :last-child { padding-right: 0; }
th.group { text-align: center; } td small, th small { color: var(--muted);
  font-weight: 400; }
.scroll th:first-child { position: sticky; left: 0; background: var(--card); }
small.line { display: block; }
tr.base th, tr.base td { color: var(--muted); font-weight: 400; }
td.best { font-weight: 750; color: var(--text); }
table.settings tr > * { padding-top: .24rem; padding-bottom: .24rem; }
table.settings td, table.settings th { text-align: left; white-space: normal;
  overflow-wrap: anywhere; }
table.settings th:first-child { white-space: nowrap; width: 1%; font-weight: 500; }
table.settings tr.chosen th { padding-top: .8rem; font-weight: 700; }
table.settings tr.chosen td { padding-top: .8rem; }
table.settings tr.part th { padding-top: 1.1rem; color: var(--muted);
  font-size: .85rem; }
img { image-rendering: pixelated; display: block; }
img.smooth { image-rendering: auto; }
.stack { display: grid; gap: 1rem; min-width: 0; }
.aside { display: flex; flex-wrap: wrap; gap: 1rem 1.75rem; align-items: flex-start; }
.aside p { flex: 1 1 14rem; margin: 0; }
.views { max-width: 100%; height: auto; border-radius: 6px; }
.near { display: flex; gap: .35rem; padding: .3rem 0; }
.near figure { margin: 0; text-align: center; font-size: .78rem; line-height: 1.3;
  flex: 1 1 0; min-width: 2.7rem; max-width: 5rem; }
.near figure:first-child { margin-right: .7rem; }
.made figure:first-child { margin-right: 0; }
.near img { width: 100%; border-radius: 5px; border: 3px solid var(--rule);
  margin-bottom: .15rem; }
.near .good img { border-color: var(--good); }
.near .bad img { border: 3px dashed var(--bad); }
.near figcaption { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
footer { margin-top: 3rem; padding-top: 1rem; border-top: 1px solid var(--rule);
  color: var(--muted); font-size: .875rem; }
details.words { margin-top: .4rem; font-size: .925rem; }
details.words summary { margin: .3rem 0; font-weight: 500; }
details summary { cursor: pointer; margin: .75rem 0; font-weight: 600; }
@media (max-width: 30rem) {
  body { padding: 1.25rem .9rem 3rem; }
  .card { padding: .8rem .75rem; }
  .meter { grid-template-columns: 7.6rem 1fr 5.6rem; gap: 0 .5rem; }
  th, td { padding: .35rem .45rem; }
  tbody th { white-space: normal; min-width: 6.5rem; max-width: 9rem; }
  tbody th small { display: block; }
  .prose.across tbody th { min-width: 7.5rem; }
  .minis { grid-template-columns: repeat(2, 1fr); }
  .chart text, .chart.wide text { font-size: 12.5px; }
}
@media print {
  body { background: none; padding: 0; } nav { display: none; }
  .card { break-inside: avoid; }
}
"""

# `c0` ... `c7` and `base` colour whatever carries them.
_PAINT = """
.line.{0}, .bar.{0}, .area.{0}, .stroke.{0} {{ stroke: var(--{0}); }}
.dot.{0}, .mark.{0}, .block.{0}, .area.{0}, .chart text.name.{0} {{ fill: var(--{0}); }}
i.{0} {{ background: var(--{0}); }}
"""


def style_sheet() -> str:
    """The whole style sheet."""
    colours = [f"c{i}" for i in range(8)] + ["base", "base2"]
    return CSS + "".join(_PAINT.format(colour) for colour in colours)
