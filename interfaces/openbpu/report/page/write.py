"""From the performance JSON to the page."""

from __future__ import annotations

from typing import Any

from openbpu.report.page.charts import over_time, roofline, timeline
from openbpu.report.page.markup import STYLE, section, table, text, tiles
from openbpu.report.text import in_bytes, in_time

Json = dict[str, Any]


def performance_page(document: Json, name: str) -> str:
    """Return the page of a performance document (`performance_json`), as HTML text."""
    title = f"{name} on {document['summary']['model info']['BPU march']}"
    makers = (_figures, _time, _changes, _layers, _placement)
    body = f"<h1>{text(title)}</h1>\n" + "".join(make(document) for make in makers)
    head = f'<meta charset="utf-8"><title>{text(title)}</title>\n<style>\n{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>{body}</body></html>\n'


def _figures(document: Json) -> str:
    summary, latency = document["summary"], document["openbpu"]["latency"]
    performance, ddr = summary["performance"], summary["DDR access data"]
    images = latency["images per run"]
    of = f", {images} images per run" if images > 1 else ""
    figures = [
        ("BPU, simulated", in_time(performance["latency (us)"])),
        ("FPS of the BPU alone" + of, f"{performance['FPS']:g}"),
        ("CPU segments, estimate", in_time(latency["cpu_us_estimate"])),
        (f"per {'run' if of else 'frame'}, several threads, estimate", in_time(latency["frame_us_estimate"])),
        ("one thread, call to return, estimate", in_time(latency["one_thread_us_estimate"])),
        ("loaded from DDR", in_bytes(ddr["loaded bytes per run"])),
        ("stored to DDR", in_bytes(ddr["stored bytes per run"])),
        ("DDR memory needed", in_bytes(ddr["min memory requirement"])),
    ]
    l2m = document["openbpu"]["L2M"]["bytes moved per run"]
    figures += [("moved to and from the L2M", in_bytes(l2m))] if l2m else []
    cpu = {c["segment"]: c for c in document["openbpu"]["roofline"]["cpu segments"]}
    segments = [
        (s["name"], s["on"], f"{s['cycles']:,}" if s["cycles"] else "", in_time(s["us"]), _basis(s, cpu))
        for s in latency["segments"]
    ]
    others = [
        (e["what"], "CPU", "", in_time(e["us"]), f"estimate ({_confidence(e)})")
        for e in document["openbpu"]["estimates"]
        if "nodes" not in e
    ]
    head = ("Segment", "On", "Cycles", "Latency", "Basis")
    rows = table(head, [*segments, *others], ("Cycles", "Latency"))
    return tiles(figures) + section("Segments", "In the order they run; the BPU waits for the CPU.", rows)


def _basis(segment: Json, cpu: Json) -> str:
    """Return what a segment's time is: simulated, or the parts of the estimate."""
    if segment["name"] not in cpu:
        start = f", {in_time(segment['start_us'])} of it to start" if segment["start_us"] else ""
        return str(segment["basis"]) + start
    found = cpu[segment["name"]]
    parts = ("handover_us", "dispatch_us", "arithmetic_us", "memory_us")
    shown = ", ".join(f"{part.removesuffix('_us')} {in_time(found[part])}" for part in parts)
    return f"estimate: {shown}; {found['change']['what']}"


def _confidence(entry: Json) -> str:
    return ", ".join(sorted(set(entry["confidence"].values())))


def _time(document: Json) -> str:
    busy = section(
        "Over time",
        "How busy the tensor engine is, and the DDR traffic.",
        over_time(document["summary"]["interval info"]),
    )
    engines = section(
        "Timeline", "What each engine works on; point at a bar for its layer.", timeline(document["details"])
    )
    return busy + engines


def _changes(document: Json) -> str:
    found, network = document["openbpu"]["roofline"], document["openbpu"]["roofline"]["network"]
    causes = ("compute", "DDR", "overhead", "CPU")
    parts = tiles((f"{c}, as if alone", in_time(network[f"{c}_us"])) for c in causes)
    rows = [(c["what"], c["layers"], in_time(c["gain_us"])) for c in network["changes"]]
    helps = table(("Change", "Layers", "Gain"), rows, ("Layers", "Gain")) if rows else ""
    roof = section("Roofline", "Layers that multiply, under the roof of their march.", roofline(found))
    return section("What would help most", f"Mostly {network['bound']}-bound.", parts, helps) + roof


def _layers(document: Json) -> str:
    lines = document["openbpu"]["roofline"]["layers"]
    rows = []
    for cost, line in zip(document["summary"]["layer details"], lines, strict=True):
        gain = in_time(line["change"]["gain_us"]) if line["change"]["gain_us"] else ""
        what = (cost["layer name"], cost["active period of time"])
        costs = (
            cost[k].replace(" of model", "") for k in ("computing cost (no DDR)", "load cost", "store cost")
        )
        bound = (f"{line['bound']} ({line['engine']})" if line["engine"] else "", in_time(line["exposed_us"]))
        rows.append((*what, *costs, *bound, gain, line["change"]["what"], ", ".join(cost["origin ops"])))
    head = ("Layer", "Active", "Compute", "Load", "Store", "Bound", "Exposed", "Gain", "Change", "Nodes")
    numbers = head[1:5] + head[6:8]
    told = (
        "Costs as if nothing overlapped; exposed: how much shorter the run gets if the layer costs nothing."
    )
    return section("Layers", told, table(head, rows, numbers, ("Layer", "Change", "Nodes")) if rows else "")


def _placement(document: Json) -> str:
    found = document["openbpu"]["placement"]
    rows = [
        (p["node"], p["on"], p["subgraph"], p["type"], p["dtypes"], p["reason"], p["fix"])
        for p in found["nodes"]
    ]
    head = ("Node", "On", "Subgraph", "Type", "In/Out DataType", "Reason", "Fix")
    return section(
        "Where its operators run", found["summary"], table(head, rows, long=("Node", "Reason", "Fix"))
    )
