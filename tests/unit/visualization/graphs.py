"""Graphs that the tests draw."""

from taskiq_flow.visualization import EdgeView, GraphView, NodeView

HOSTILE = '"];--><script>alert(1)</script>\n\x1b[31m\\" & `#` %%{init}%% end {x} [y] |z| \x00'


def graph(*edges: str, nodes: str = "", title: str = "") -> GraphView:
    """Build a graph of nodes with one letter from edges such as ``ab``."""
    letters = dict.fromkeys(nodes + "".join(edges))
    return GraphView(
        title, tuple(NodeView(n, n) for n in letters), tuple(EdgeView(e[0], e[1]) for e in edges)
    )


def run() -> GraphView:
    """Build a graph whose nodes have each status."""
    return GraphView(
        "import",
        (
            NodeView("fetch", "fetch", status="COMPLETED", detail="9.8 s"),
            NodeView("check", "check", status="COMPLETED"),
            NodeView("render", "render", status="FAILED", detail="failed after 3 attempts"),
            NodeView("enrich", "enrich", kind="map", status="RUNNING", detail="7 of 10"),
            NodeView("gallery", "gallery", status="SKIPPED"),
            NodeView("approval", "approval", kind="event", status="EVENT"),
            NodeView("sync", "sync", status="RETRYING"),
            NodeView("index", "index", status="WAITING"),
            NodeView("mail", "mail", status="CANCELLED"),
        ),
        (
            EdgeView("fetch", "check"),
            EdgeView("check", "render"),
            EdgeView("check", "enrich", "rows"),
            EdgeView("render", "gallery"),
            EdgeView("check", "sync"),
            EdgeView("enrich", "index"),
            EdgeView("sync", "index"),
            EdgeView("fetch", "index"),
        ),
    )
