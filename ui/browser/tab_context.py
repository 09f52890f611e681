"""What the tabs of the browser app share."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import gradio as gr

    from ..model_registry import ModelRegistry
    from ..runs.jobs import Jobs


@dataclass(frozen=True)
class TabContext:
    """The models, the training runs and the shared components that a tab needs.

    An event opens the tab Predict with a model if it returns `gr.Tabs(selected="predict")` for `tabs` and the model's
    name for `model`.
    """

    registry: "ModelRegistry"
    jobs: "Jobs"
    tabs: "gr.Tabs"
    model: "gr.Dropdown"  # of the tab Predict
    page: "gr.Blocks"  # its `load` event fires when a user opens the page
