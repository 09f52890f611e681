"""Looking inside a model: attention, the logit lens, attributions, switched-off heads, parameters, layer probes.

Everything here comes back as frozen dataclasses, which the page of `headway inspect` and the browser app draw.
"""

from .attention import AttentionView, HeadFigures, view_attention
from .attribution import Attribution, choose_output, integrated_gradients, leave_one_out, outputs_of
from .lens import LayerSays, LensView, view_lens, view_next_tokens
from .opened import Inspected, Reading, Token, open_model
from .parameters import Matrix, Need, Parameters, count_parameters
from .probing import LayerScore, Probed, ProbeResult, probe
from .switches import Ranking, Switch, SwitchedOff, rank_switches, switched_off

__all__ = [
    "AttentionView",
    "Attribution",
    "HeadFigures",
    "Inspected",
    "LayerSays",
    "LayerScore",
    "LensView",
    "Matrix",
    "Need",
    "Parameters",
    "ProbeResult",
    "Probed",
    "Ranking",
    "Reading",
    "Switch",
    "SwitchedOff",
    "Token",
    "choose_output",
    "count_parameters",
    "integrated_gradients",
    "leave_one_out",
    "open_model",
    "outputs_of",
    "probe",
    "rank_switches",
    "switched_off",
    "view_attention",
    "view_lens",
    "view_next_tokens",
]
