"""One self-contained HTML page: sections of tables, charts and pictures; opens from a file, offline, anywhere."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from .exports import write_text


@dataclass(frozen=True)
class Section:
    """A titled part of a page; ``html`` is trusted, ``fold`` starts it closed."""

    title: str
    html: str
    fold: bool = False


@dataclass(frozen=True)
class Picture:
    """A picture to click through: JPEG bytes and what it shows."""

    jpeg: bytes
    caption: str


def write_report(path: Path, title: str, sections: Sequence[Section], subtitle: str = "") -> None:
    """Write the page atomically."""
    body = "".join(_section(i, s) for i, s in enumerate(sections))
    contents = "".join(f'<a href="#s{i}">{escape(s.title)}</a>' for i, s in enumerate(sections))
    write_text(path, [f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title>"
                      f'<meta name=viewport content="width=device-width, initial-scale=1"><style>{_STYLE}</style>'
                      f"<header><h1>{escape(title)}</h1><p>{escape(subtitle)}</p><nav>{contents}</nav></header>"
                      f"<main>{body}</main>{_VIEWER}<script>{_SCRIPT}</script></html>"])


def table(headers: Sequence[str], rows: Sequence[Sequence[Any]], bad: Sequence[int] = ()) -> str:
    """A table; numbers are set right with few digits, None is a dash, rows in ``bad`` are marked."""
    numeric = [bool(column) and all(isinstance(v, int | float) or v is None for v in column)
               for column in zip(*rows, strict=True)] or [False] * len(headers)
    head = "".join(f'<th{" class=n" * n}>{escape(h)}</th>' for h, n in zip(headers, numeric, strict=True))
    lines = []
    for i, row in enumerate(rows):
        cells = "".join(_cell(v) for v in row)
        lines.append(f'<tr class="bad">{cells}</tr>' if i in bad else f"<tr>{cells}</tr>")
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def pairs(values: Mapping[str, Any]) -> str:
    """Names and values in two columns; what is unknown is left out."""
    shown = {k: v for k, v in values.items() if v not in (None, "", [], {})}
    return "<dl>" + "".join(f"<dt>{escape(k)}</dt><dd>{escape(text(v))}</dd>" for k, v in shown.items()) + "</dl>"


def text(value: Any) -> str:
    """A value as a person reads it."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e5 else f"{value:.0f}"
    if isinstance(value, dict):
        return ", ".join(f"{k} {text(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return "; ".join(text(v) for v in value)
    return str(value)


def charts(*svgs: str) -> str:
    """Charts side by side, as many as fit."""
    return f'<div class="charts">{"".join(f"<figure>{s}</figure>" for s in svgs if s)}</div>'


def titled(title: str, svg: str) -> str:
    """A chart with a caption above it."""
    return f"<figcaption>{escape(title)}</figcaption>{svg}" if svg else ""


def gallery(pictures: Sequence[Picture]) -> str:
    """Small pictures; a click opens the viewer, arrow keys go through them."""
    figures = []
    for p in pictures:
        data = base64.b64encode(p.jpeg).decode()
        figures.append(f'<figure class="shot" tabindex=0><img loading=lazy alt="{escape(p.caption)}" '
                       f'src="data:image/jpeg;base64,{data}"><figcaption>{escape(p.caption)}</figcaption></figure>')
    return f'<div class="gallery">{"".join(figures)}</div>'


def notice(line: str, kind: str = "warn") -> str:
    """One line that should be seen; ``kind`` is warn, bad or good."""
    return f'<p class="notice {kind}">{escape(line)}</p>'


def _cell(value: Any) -> str:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return f'<td class="{"n" if number or value is None else "t"}">{escape(text(value))}</td>'


def _section(index: int, section: Section) -> str:
    opened = "" if section.fold else " open"
    return (f'<details id="s{index}"{opened}><summary><h2>{escape(section.title)}</h2></summary>{section.html}'
            f"</details>")


_STYLE = """
:root{--ink:#1b2430;--soft:#5d6b7c;--line:#d9dfe6;--page:#f6f7f9;--card:#fff;--bad:#c0392b;--warn:#b26a00;
--good:#22805a;--c0:#2f6fd0;--c1:#d9772b;--c2:#2a9468;--c3:#b8395f;--c4:#7757b3;--c5:#5c6b7a}
@media(prefers-color-scheme:dark){:root{--ink:#e4e9ef;--soft:#97a5b5;--line:#2d3742;--page:#12171d;--card:#1a2129;
--bad:#ff7a6b;--warn:#f0b04a;--good:#55c996;--c0:#6ea8ff;--c1:#ffa45c;--c2:#5fd0a0;--c3:#ff7fa5;--c4:#b39bff;
--c5:#9aa8b6}}*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--ink);
font:15px/1.5 system-ui,sans-serif}header,main{max-width:1200px;margin:0 auto;padding:16px 20px}h1{font-size:24px;
margin:8px 0 0}header p{margin:2px 0 10px;color:var(--soft)}h2{display:inline;font-size:18px}h3{font-size:15px;
margin:18px 0 6px}nav{display:flex;flex-wrap:wrap;gap:6px}nav a{padding:2px 10px;border:1px solid var(--line);
border-radius:12px;color:var(--ink);text-decoration:none;background:var(--card)}details{background:var(--card);
border:1px solid var(--line);border-radius:8px;padding:12px 16px;margin:0 0 14px}summary{cursor:pointer;
margin-bottom:8px}.scroll{overflow-x:auto}table{border-collapse:collapse;font-size:14px}
th,td{padding:4px 12px 4px 0;text-align:left;border-bottom:1px solid var(--line);white-space:nowrap}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}td.t{white-space:normal}th{color:var(--soft);
font-weight:600}tr.bad td{color:var(--bad)}dl{display:grid;grid-template-columns:max-content 1fr;gap:2px 16px;
margin:6px 0}dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}.charts{display:grid;
grid-template-columns:repeat(auto-fill,minmax(340px,1fr));gap:12px;margin:8px 0}figure{margin:0}
figcaption{font-size:13px;color:var(--soft)}svg{width:100%;height:auto;display:block}.plot{fill:none;
stroke:var(--line)}.grid{stroke:var(--line);stroke-width:.6}.tick{font-size:11px;fill:var(--soft)}
.label{font-size:12px;fill:var(--ink)}.note{font-size:13px;fill:var(--soft);text-anchor:middle}.line{fill:none;
stroke-width:1.8;stroke-linejoin:round}.c0{stroke:var(--c0)}.c1{stroke:var(--c1)}.c2{stroke:var(--c2)}
.c3{stroke:var(--c3)}.c4{stroke:var(--c4)}.c5{stroke:var(--c5)}.bar{fill:var(--c0)}.mark{stroke:var(--c1);
stroke-dasharray:4 3}.span{fill:var(--c5)}.LOCKED,.ok,.metric{fill:var(--c2)}
.OCCLUDED,.ACQUIRING,.unit{fill:var(--c1)}.LOST,.FAILED,.gap{fill:var(--bad)}.NONE,.none{fill:var(--line)}
.gallery{display:grid;grid-template-columns:repeat(auto-fill,minmax(230px,1fr));gap:10px}.shot{cursor:zoom-in}
.shot img{width:100%;border-radius:4px;display:block}.notice{padding:6px 12px;border-left:4px solid var(--warn);
background:var(--page);margin:6px 0}.notice.bad{border-color:var(--bad)}.notice.good{border-color:var(--good)}
#viewer{position:fixed;inset:0;background:#000d;display:none;align-items:center;justify-content:center;
flex-direction:column;color:#fff;z-index:9}#viewer.open{display:flex}#viewer img{max-width:96vw;max-height:86vh}
#viewer p{margin:8px}#viewer button{position:absolute;top:45%;font-size:34px;background:none;border:0;color:#fff;
cursor:pointer;padding:20px}#viewer .prev{left:0}#viewer .next{right:0}
""".replace("\n", "")
_VIEWER = ('<div id="viewer" role="dialog" aria-label="picture"><button class="prev" aria-label="previous">‹</button>'
           '<img alt=""><p></p><button class="next" aria-label="next">›</button></div>')
_SCRIPT = """
const open=()=>{const s=document.getElementById(location.hash.slice(1));if(s)s.open=true};
addEventListener('hashchange',open);open();
const shots=[...document.querySelectorAll('.shot')],view=document.getElementById('viewer');let at=0;
const show=i=>{at=(i+shots.length)%shots.length;const f=shots[at];
view.querySelector('img').src=f.querySelector('img').src;
view.querySelector('p').textContent=(at+1)+' / '+shots.length+' – '+f.innerText;view.classList.add('open')};
shots.forEach((f,i)=>{f.onclick=()=>show(i);f.onkeydown=e=>{if(e.key==='Enter')show(i)}});
view.querySelector('.prev').onclick=e=>{e.stopPropagation();show(at-1)};
view.querySelector('.next').onclick=e=>{e.stopPropagation();show(at+1)};
view.onclick=()=>view.classList.remove('open');document.onkeydown=e=>{if(!view.classList.contains('open'))return;
if(e.key==='Escape')view.classList.remove('open');if(e.key==='ArrowLeft')show(at-1);
if(e.key==='ArrowRight')show(at+1)};
""".replace("\n", "")
