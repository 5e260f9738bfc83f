"""How a graph shows itself as the last line of a notebook's cell."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from taskiq_flow import visualization
from taskiq_flow.exceptions import TaskiqFlowError


class Shown(ABC):
    """Gives a notebook pictures of whatever has a ``to_view()``; it takes the best that it can."""

    @abstractmethod
    def to_view(self) -> visualization.GraphView:
        """What every drawing of this package takes."""

    def _repr_html_(self) -> str | None:
        return self._repr_mimebundle_().get("text/html")

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """Return the pictures by MIME type; one that cannot be drawn yet says why as text."""
        try:
            view = self.to_view()
        except TaskiqFlowError as error:
            return {"text/plain": f"{self!r}: {error}"}
        drawn = visualization.render_svg(view)
        bundle = {
            "text/plain": visualization.render_ascii(view),
            "text/vnd.mermaid": visualization.MermaidGenerator(view).to_mermaid(),
            "image/svg+xml": drawn,
            "text/html": drawn,
        }
        wanted = set(include or bundle) - set(exclude or ())
        return {kind: picture for kind, picture in bundle.items() if kind in wanted}
