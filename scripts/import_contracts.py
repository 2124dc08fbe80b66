"""A contract for import-linter that it does not bring: no circle of files.

Its own `acyclic_siblings` compares packages, where pipeline/vertex's engine makes the nodes
of steps/ and one of those builds the flow again.
"""

from __future__ import annotations

import graphlib
from typing import Any

from importlinter import Contract, ContractCheck, output


class NoCircles(Contract):
    """No file imports itself by way of others, inside functions neither."""

    def check(self, graph: Any, verbose: bool) -> ContractCheck:  # noqa: ARG002
        """Looks for one circle.

        Args:
            graph: grimp's ImportGraph of all rooms.
            verbose: Unused.
        """
        imports = {
            module: graph.find_modules_directly_imported_by(module)
            for module in graph.modules
        }
        try:
            graphlib.TopologicalSorter(imports).prepare()
        except graphlib.CycleError as error:
            return ContractCheck(kept=False, metadata={"circle": error.args[1][::-1]})
        return ContractCheck(kept=True)

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Prints the circle, file after file."""
        output.print_error(" -> ".join(check.metadata["circle"]))
