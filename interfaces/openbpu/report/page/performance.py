"""From the performance JSON to the page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from openbpu.report.page.analysis import accuracy_parts
from openbpu.report.page.charts import by_type, memory, over_time, roofline, timeline
from openbpu.report.page.frame import About, Tab, page
from openbpu.report.page.parts import Cell, Column, Section, Table, Tiles, section
from openbpu.report.text import in_bytes, in_time

if TYPE_CHECKING:
    from openbpu.report.analysis_file import Analysed

Json = dict[str, Any]


def performance_page(
    document: Json, name: str, about: About | None = None, accuracy: Analysed | None = None
) -> str:
    """Return the page of a performance document (`performance_json`), as HTML text.

    accuracy: an analysis of the same model, for a tab of its own.
    """
    title = f"{name} on {document['summary']['model info']['BPU march']}"
    tabs = [
        Tab("overview", "Overview", (_figures(document), _segments(document), _changes(document))),
        Tab("time", "Time", _time(document)),
        Tab("memory", "Memory", (_memory(document),)),
        Tab("layers", "Layers", (_roofline(document), _layers(document))),
        Tab("placement", "Placement", (placement(document["openbpu"]["placement"]),)),
    ]
    if accuracy is not None:
        parts = accuracy_parts(accuracy.analysis, accuracy.sensitivity, accuracy.metric)
        tabs.insert(1, Tab("accuracy", "Accuracy", parts))
    return page(title, about or About(), tabs)


def time_cell(us: float) -> Cell:
    """Return a time that sorts by what it is; nothing for 0."""
    return Cell(in_time(us) if us else "", us)


def _figures(document: Json) -> Tiles:
    summary, latency = document["summary"], document["openbpu"]["latency"]
    performance, ddr = summary["performance"], summary["DDR access data"]
    images = latency["images per run"]
    of = f", {images} images per run" if images > 1 else ""
    figures = [
        ("BPU, simulated", in_time(performance["latency (us)"])),
        ("FPS of the BPU alone" + of, str(performance["FPS"])),
        ("CPU segments, estimate", in_time(latency["cpu_us_estimate"])),
        (f"per {'run' if of else 'frame'}, several threads, estimate", in_time(latency["frame_us_estimate"])),
        ("one thread, call to return, estimate", in_time(latency["one_thread_us_estimate"])),
        ("loaded from DDR", in_bytes(ddr["loaded bytes per run"])),
        ("stored to DDR", in_bytes(ddr["stored bytes per run"])),
        ("DDR memory needed", in_bytes(ddr["min memory requirement"])),
    ]
    l2m = document["openbpu"]["L2M"]["bytes moved per run"]
    return Tiles((*figures, *([("moved to and from the L2M", in_bytes(l2m))] if l2m else [])))


def _segments(document: Json) -> Section:
    cpu = {c["segment"]: c for c in document["openbpu"]["roofline"]["cpu segments"]}
    segments = [
        (s["name"], s["on"], _whole(s["cycles"]), time_cell(s["us"]), _basis(s, cpu))
        for s in document["openbpu"]["latency"]["segments"]
    ]
    others = [
        (e["what"], "CPU", "", time_cell(e["us"]), f"estimate ({_confidence(e)})")
        for e in document["openbpu"]["estimates"]
        if "nodes" not in e
    ]
    columns = (
        Column("Segment"), Column("On"), Column("Cycles", "number"), Column("Latency", "number"),
        Column("Basis", "long"),
    )  # fmt: skip
    told = "In the order they run; the BPU waits for the CPU."
    return section("Segments", told, Table(columns, [*segments, *others], "segments"))


def _whole(n: int) -> Cell:
    return Cell(f"{n:,}" if n else "", n)


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


def _changes(document: Json) -> Section:
    network = document["openbpu"]["roofline"]["network"]
    causes = ("compute", "DDR", "overhead", "CPU")
    parts = Tiles(tuple((f"{c}, as if alone", in_time(network[f"{c}_us"])) for c in causes))
    rows = [(c["what"], _whole(c["layers"]), time_cell(c["gain_us"])) for c in network["changes"]]
    columns = (Column("Change", "long"), Column("Layers", "number"), Column("Gain", "number"))
    told = f"Mostly {network['bound']}-bound. Each change alone, the segments timed again with it."
    return section("What would help most", told, parts, Table(columns, rows, "changes"))


def _time(document: Json) -> tuple[Section, ...]:
    info, own = document["summary"]["interval info"], document["openbpu"]
    types = own["operator types"]
    columns = (
        Column("Type", "long"),
        *(Column(name, "number") for name in ("Layers", "Computing", "Loading", "Storing", "On the CPU")),
    )
    parts = ("compute_us", "load_us", "store_us", "cpu_us")
    rows = [(t["type"], _whole(t["layers"]), *(time_cell(t[part]) for part in parts)) for t in types]
    alone = "As if nothing overlapped, so together longer than the run; a layer counts as its first node."
    return (
        section("Time by operator type", alone, by_type(types), Table(columns, rows, "types")),
        section("Over time", "How busy the tensor engine is, and the DDR traffic.", over_time(info)),
        section(
            "Timeline",
            "What each engine works on; point at a bar for its layer.",
            timeline(document["details"]),
        ),
    )


def _memory(document: Json) -> Section:
    ddr, own = document["summary"]["DDR access data"], document["openbpu"]
    chip = own["on-chip bytes"]
    figures = [
        ("on-chip memory used, of one core", f"{in_bytes(chip['used'])} of {in_bytes(chip['of'])}"),
        ("weights and tables in DDR", in_bytes(ddr["static memory"])),
        ("feature maps in DDR", in_bytes(ddr["dynamic memory"])),
        ("inputs", in_bytes(ddr["input memory"])),
        ("outputs", in_bytes(ddr["output memory"])),
    ]
    l2m = own["L2M"]["bytes used"]
    figures += [("L2M used", in_bytes(l2m))] if l2m else []
    told = (
        "Bytes of the tensors that a layer still needs, by the memory they are kept in. Tiles and weights "
        "that pass through on-chip memory while a layer runs are not in it."
    )
    return section("Memory over time", told, Tiles(tuple(figures)), memory(own["memory over time"]))


def _roofline(document: Json) -> Section:
    found = document["openbpu"]["roofline"]
    return section(
        "Roofline",
        "Layers that multiply: MACs per second, upwards, by MACs per byte of DDR traffic.",
        roofline(found),
    )


def _layers(document: Json) -> Section:
    lines = document["openbpu"]["roofline"]["layers"]
    rows = []
    for cost, line in zip(document["summary"]["layer details"], lines, strict=True):
        start = float(cost["active period of time"].partition(" ")[0])
        what = (Cell(cost["layer name"]), Cell(cost["active period of time"].replace("us", "µs"), start))
        costs = (_cost(cost[k]) for k in ("computing cost (no DDR)", "load cost", "store cost"))
        bound = f"{line['bound']} ({line['engine']})" if line["engine"] else ""
        change = Cell(line["change"]["what"])
        gain = time_cell(line["change"]["gain_us"])
        nodes = ", ".join(cost["origin ops"])
        rows.append((*what, *costs, bound, time_cell(line["exposed_us"]), gain, change, nodes))
    columns = (
        Column("Layer", "long"),
        *(Column(name, "number") for name in ("Active", "Compute", "Load", "Store")),
        Column("Bound"), Column("Exposed", "number"), Column("Gain", "number"), Column("Change", "long"),
        Column("Nodes", "long"),
    )  # fmt: skip
    told = (
        "Costs as if nothing overlapped; exposed: how much shorter the run gets if the layer costs nothing."
    )
    return section("Layers", told, Table(columns, rows, "layers"))


def _cost(text: str) -> Cell:
    """Return "3.2 us (1.3% of model)" as a cell that sorts by its µs."""
    us, _, of = text.partition(" us ")
    share = of.strip("()").replace(" of model", "")
    return Cell(f"{us} µs" if float(us) else "", float(us), under=share if float(us) else "")


def placement(found: Json) -> Section:
    """Return where the nodes run and why, of the part "placement" of a document."""
    where = any(p["scope"] or p["source"] for p in found["nodes"])
    costly = any(p["cost"] for p in found["nodes"])
    rows = [
        (
            Cell(p["node"], under=" ".join(filter(None, (p["scope"], p["source"]))) if where else ""),
            Cell(p["on"], css="cpu" if p["on"] == "CPU" else ""),
            *(p["subgraph"], p["type"], p["dtypes"], p["reason"], p["fix"]),
            *([_cost_cell(p["cost"])] if costly else []),
        )
        for p in found["nodes"]
    ]
    columns = (
        Column("Node", "long"), Column("On"), Column("Subgraph"), Column("Type"), Column("In/Out DataType"),
        Column("Reason", "long"), Column("Fix", "long"),
        *([Column("Cost, estimate", "long")] if costly else []),
    )  # fmt: skip
    return section("Where its operators run", found["summary"], Table(columns, rows, "nodes"))


def _cost_cell(cost: Json | None) -> Cell:
    """Return what a node on the CPU costs; sorts by its time."""
    if cost is None:
        return Cell("")
    return Cell(cost["text"], cost["cpu_ms_estimate"] + cost["handover_ms_estimate"])
