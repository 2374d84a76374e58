# SPDX-FileCopyrightText: StarONNX developers
# SPDX-License-Identifier: Apache-2.0
"""The page of ./run demo: what was measured, as bars and as a table; needs nothing but itself."""

from base64 import b64encode
from html import escape

import demo_fleet

STYLE = """
:root{--bg:#fbfbfd;--fg:#1c2230;--dim:#667085;--panel:#fff;--rule:#e4e7ec;--ours:#1769e0;
--theirs:#aab4c5}
@media (prefers-color-scheme:dark){:root{--bg:#12151c;--fg:#e6e9ef;--dim:#98a2b3;--panel:#1a1f29;
--rule:#2c3342;--ours:#6aa7ff;--theirs:#56617a}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--fg);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif}
main{max-width:1080px;margin:0 auto;padding:36px 24px 24px}
h1{font-size:28px;line-height:1.2;margin:0 0 4px;letter-spacing:-.015em}
h2{font-size:19px;margin:34px 0 2px}h3{font-size:16px;margin:20px 0 2px}
p{margin:0 0 12px;max-width:96ch}.sub{max-width:none}
.warn{border-left:4px solid #b88700;padding-left:12px}.sub,.small{color:var(--dim)}.small{font-size:13.5px}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(430px,100%),1fr));gap:14px;
margin:10px 0 14px}
figure{margin:0;background:var(--panel);border:1px solid var(--rule);border-radius:10px;
padding:14px 16px 10px}
figcaption b{font-size:15px}figcaption span{display:block;color:var(--dim);font-size:13px}
svg{display:block;width:100%;height:auto;margin-top:8px}
svg text{font-size:13px;fill:var(--fg)}svg .value{font-weight:600}
.ours{fill:var(--ours)}.theirs{fill:var(--theirs)}
.wide{overflow-x:auto;background:var(--panel);border:1px solid var(--rule);border-radius:10px}
table{border-collapse:collapse;width:100%;font-size:13.5px;font-variant-numeric:tabular-nums}
th,td{padding:6px 12px;text-align:right}td{white-space:nowrap}
th{color:var(--dim);font-weight:500;vertical-align:bottom;border-bottom:1px solid var(--rule)}
th:first-child,td:first-child{text-align:left}tr.us td{font-weight:650}
code{font-size:13px}footer{color:var(--dim);font-size:13px;margin-top:30px}
"""
WIDTH, BAR, GAP, NAME = 460, 24, 14, 18


def bars(rows, value, unit, digits):
    """Horizontal bars, each below its name."""
    most = max(value(r) for r in rows) or 1
    step = NAME + BAR + GAP
    out = [f'<svg viewBox="0 0 {WIDTH} {step * len(rows)}" role="img">']
    for i, r in enumerate(rows):
        y, long = i * step, max(2.0, value(r) / most * (WIDTH - 110))
        out.append(f'<text x="0" y="{y + 13}">{escape(r["name"])}</text>'
                   f'<rect class="{"ours" if r["ours"] else "theirs"}" x="0" y="{y + NAME}" '
                   f'width="{long:.1f}" height="{BAR}" rx="4"/>'
                   f'<text class="value" x="{long + 8:.1f}" y="{y + NAME + 17}">'
                   f'{value(r):.{digits}f} {unit}</text>')
    return "".join(out) + "</svg>"


def figure(title, note, svg):
    return (f"<figure><figcaption><b>{escape(title)}</b><span>{escape(note)}</span></figcaption>"
            f"{svg}</figure>")


def digits_for(values):
    return 0 if min(values) >= 100 else 1


def table(rows, many):
    head = ("", "one client: median latency", "requests/s", f"{many} clients: median latency",
            "requests/s", "failed", "rounds differed by")
    out = ["<div class=wide><table><thead><tr>", *[f"<th>{escape(h)}</th>" for h in head],
           "</tr></thead><tbody>"]
    for r in rows:
        cells = (escape(r["name"]), f'{r["p50_ms"]:.1f} ms', f'{r["one_rps"]:.1f}',
                 f'{r["many_p50_ms"]:.1f} ms', f'{r["many_rps"]:.1f}', str(r["failed"]),
                 f'{100 * r["spread"]:.0f} %' if r["rounds"] > 1 else "one round")
        out.append(f'<tr{" class=us" if r["ours"] else ""}>'
                   + "".join(f"<td>{c}</td>" for c in cells) + "</tr>")
    return "".join(out) + "</tbody></table></div>"


def widths(used):
    parts = []
    for clients, (cores, share) in used.items():
        who = "one client" if clients == 1 else f"{clients} clients"
        parts.append(f"with {who} {share} % of runs used {cores} core" + "s" * (cores != 1))
    return "One StarONNX deployment throughout, no setting changed: " + ", ".join(parts) + "."


def model(data, name):
    rows, many = data["rows"][name], data["many"]
    one, most = [r["p50_ms"] for r in rows], [r["many_rps"] for r in rows]
    return (f"<h2>{escape(data['titles'][name])}</h2><p class=sub>{escape(widths(data['widths'][name]))}</p>"
            "<div class=pair>"
            + figure("One client: median latency", "shorter is better",
                     bars(rows, lambda r: r["p50_ms"], "ms", digits_for(one)))
            + figure(f"{many} clients: throughput", "requests per second; longer is better",
                     bars(rows, lambda r: r["many_rps"], "/s", digits_for(most)))
            + "</div>" + table(rows, many))


def fleet(data):
    """The part on unequal devices."""
    f = data["fleet"]
    if not f:
        return ""
    cut = ""
    if f["gantt"]:
        plan, measured = f["cut"]["plan"], f["cut"]["measured"]
        cut = (f"<h3>The best cut in two stages: {escape(plan['name'])}</h3>"
               f"<p class=small>Found by: {escape(plan['method'])}. Predicted "
               f"{f['cut']['throughput']:.1f} requests per second, measured "
               f"{measured['throughput']:.1f}, with both devices computing "
               f"{100 * measured['all_busy']:.0f} % of the time.</p>"
               # as an image, because its style and this page's must not meet
               f"<div class=wide><img alt='Gantt picture of the pipeline' style='width:100%' "
               f"src='data:image/svg+xml;base64,{b64encode(f['gantt'].encode()).decode()}'></div>")
    return (f"<h2>ResNet-50 on unequal devices</h2>"
            f"<p class=warn>Emulated: {escape(f['slow'])} is a core that computes for real and then "
            f"waits until {f['k']} times that have passed. This shows how work is placed and cut, "
            "not how fast some hardware is.</p>"
            f"<p>The model is resident whole on each device and cut over both; each request goes "
            f"where it is predicted to end first. With {f['clients']} clients both devices together "
            f"carry {f['gain']:.2f} times what the fast one does alone; {f['best']:g} would be the "
            f"most. Runs: {escape(demo_fleet.shares(f['runs']))}.</p><div class=pair>"
            + figure("Throughput", f"requests per second, {f['clients']} clients; longer is better",
                     bars(f["rows"], lambda r: r["rps"], "/s", 1))
            + figure("Median latency", f"{f['clients']} clients; shorter is better",
                     bars(f["rows"], lambda r: r["p50_ms"], "ms", 0))
            + f"</div>{cut}")


def doubt(data):
    """How far the figures can be trusted, in a sentence."""
    if data["rounds"] == 1:
        return "There was time for one round alone: this machine is slow or busy, do not trust it."
    text = (f"{data['rounds']} rounds in turn; the same figure differed by up to "
            f"{100 * data['noise']:.0f} % between them")
    if data["busy"]:
        return text + ", and other programs kept this machine busy: take all this with care."
    return text + (": this machine is noisy, take all this with care." if data["noise"] > 0.1 else ".")


def warning(data):
    bad = data["rounds"] == 1 or data["busy"] or data["noise"] > 0.1
    return f"<p class=warn>{escape(doubt(data))}</p>" if bad else ""


def render(data):
    m = data["machine"]
    where = (f"{m['cpu']}, {m['cores']} cores, {m['memory_gib']} GiB, {m['os']}, "
             f"ONNX Runtime {m['onnxruntime']}")
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<title>StarONNX demo</title><style>{STYLE}</style></head><body><main>
<h1>StarONNX next to plain ONNX Runtime</h1>
<p class=sub>{escape(where)} · {escape(data['when'])}</p>
<p>A fixed number of sessions and threads suits either a lone request or a crowd. StarONNX runs a
request on many cores while it is alone and on fewer each when many wait. Each model below is served
by one deployment; ONNX Runtime is shown with both usual settings.</p>
{warning(data)}{''.join(model(data, name) for name in data['rows'])}
{fleet(data)}
<h2>How it was measured</h2>
<p class=small>All figures come from this run, on this machine. Closed loop: each client sends its
next request when it has the last answer; one sample in a request. The targets took
turns, and the table shows medians of rounds. {doubt(data)} Smaller differences mean nothing. StarONNX is measured through HTTP with binary tensors, its client
on the same cores; ONNX Runtime is called directly in a process of its own, without HTTP. Models are
graphs of the ONNX model zoo with random weights: their answers mean nothing, their work is
real.</p>
<p class=small>For curves over many loads: <code>./run perf -m NAME --concurrency-range 1:16 --html
FILE</code> against a running <code>./run serve</code>.</p>
<footer>Made by <code>./run demo</code></footer>
</main></body></html>
"""
