"""How the page looks: dark on white, without a font of its own, and on paper."""

STYLE = """\
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem 1.5rem 4rem; max-width: 76rem; background: #fff;
  color: #1a1a1a; font: 16px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
h1 { font-size: 1.6rem; margin: .5rem 0; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.2rem 0 .6rem; border-bottom: 1px solid #999; }
h3 { font-size: 1rem; margin: 1.2rem 0 .4rem; }
.lead { font-size: 1.15rem; margin: .5rem 0 1rem; max-width: 60rem; overflow-wrap: anywhere; }
.faults { border-left: 4px solid #D55E00; padding: .3rem 0 .3rem 1rem; margin: 1rem 0; }
nav ul { display: flex; flex-wrap: wrap; gap: .2rem 1rem; list-style: none; padding: 0; margin: 0; }
a { color: #0a4f86; }
a:focus-visible, button:focus-visible, input:focus-visible, .wide:focus-visible
  { outline: 3px solid #0072B2; outline-offset: 1px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1.2rem; margin: .5rem 0; }
dt { font-weight: 600; } dd { margin: 0; overflow-wrap: anywhere; }
.figures { display: flex; flex-wrap: wrap; gap: 1rem 1.5rem; }
figure { margin: 0; max-width: 100%; }
figcaption { font-size: .85rem; color: #444; max-width: 32rem; }
figure svg { max-width: 100%; height: auto; display: block; }
figure svg * { stroke-linejoin: round; stroke-linecap: butt; }
.wide { overflow-x: auto; max-width: 100%; }
.sortable td:last-child:not(.n) { min-width: 12rem; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; white-space: nowrap; font-weight: 600; padding: .2rem 0; }
th, td { border-bottom: 1px solid #d5d5d5; padding: .2rem .5rem; text-align: left;
  vertical-align: top; overflow-wrap: break-word; max-width: 22rem; }
th { border-bottom: 2px solid #666; overflow-wrap: normal; }
td.n { text-align: right; white-space: nowrap; } th.n { text-align: right; }
tr.marked { background: #fff4d6; }
tr.marked td:nth-child(-n+4) { font-weight: 600; }
td:first-child:not(.n) { min-width: 9rem; overflow-wrap: anywhere; }
td:last-child { max-width: 34rem; }
th button { all: unset; cursor: pointer; font-weight: 600; text-decoration: underline dotted; }
th button:focus-visible { outline: 3px solid #0072B2; }
th[aria-sort=ascending] button::after { content: " \\25B2"; }
th[aria-sort=descending] button::after { content: " \\25BC"; }
.search { margin: .5rem 0; } .search input { font: inherit; padding: .2rem .4rem; width: 18rem;
  max-width: 100%; border: 1px solid #555; }
.teachers td, .teachers th { text-align: center; min-width: 1.8rem; border: 1px solid #d5d5d5; }
.teachers td.on { background: #0072B2; color: #fff; }
pre { background: #f3f3f3; padding: .4rem .6rem; margin: .2rem 0 .8rem; white-space: pre-wrap;
  overflow-wrap: anywhere; font-size: .85rem; }
.tests { list-style: none; padding: 0; font-size: .9rem; }
footer { margin-top: 2rem; font-size: .8rem; color: #555; }
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  nav, .search { display: none; }
  figure, tr, pre { break-inside: avoid; }
  .wide { overflow: visible; }
  th button::after { content: "" !important; }
  a { color: inherit; text-decoration: none; }
}
"""
