"""What the tabs of the browser app share."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import gradio as gr

    from ..model_registry import ModelRegistry
    from ..runs.jobs import Jobs


@dataclass(frozen=True)
class TabContext:
    """What a tab is drawn with: the models, the training runs, and how to lead a person to the tab Try.

    An event that lists `tabs` and `model` among its outputs and gives `gr.Tabs(selected="try")` and a model's name
    opens the tab Try with that model.
    """

    registry: "ModelRegistry"
    jobs: "Jobs"
    tabs: "gr.Tabs"
    model: "gr.Dropdown"  # of the tab Try
    page: "gr.Blocks"  # whose `load` is when a person opens it
