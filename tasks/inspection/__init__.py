"""Inspection of a model: attention, logit lens, attribution, ablation, parameters, probes of labels and of trees.

All results are frozen dataclasses, which the page of `headway inspect` and the browser app draw.
"""

from .ablation import Component, ComponentScore, Ranking, ablate, rank_components
from .attention import AttentionMaps, HeadStatistics, attention_maps
from .attribution import Attribution, choose_output, explainable_outputs, integrated_gradients, leave_one_out
from .inspected_model import EncodedText, InspectedModel, Token, open_model
from .logit_lens import LayerPredictions, LogitLens, apply_logit_lens, next_token_steps
from .parameters import Matrix, MemoryEstimate, Parameters, count_parameters
from .probing import LayerScore, ProbeResult, ProbeScore, probe
from .structure import DrawnTree, LayerStructure, StructureResult, StructureScore, probe_structure
from .tree_scores import TreeScores

__all__ = [
    "AttentionMaps",
    "Attribution",
    "Component",
    "ComponentScore",
    "DrawnTree",
    "EncodedText",
    "HeadStatistics",
    "InspectedModel",
    "LayerPredictions",
    "LayerScore",
    "LayerStructure",
    "LogitLens",
    "Matrix",
    "MemoryEstimate",
    "Parameters",
    "ProbeResult",
    "ProbeScore",
    "Ranking",
    "StructureResult",
    "StructureScore",
    "Token",
    "TreeScores",
    "ablate",
    "apply_logit_lens",
    "attention_maps",
    "choose_output",
    "count_parameters",
    "explainable_outputs",
    "integrated_gradients",
    "leave_one_out",
    "next_token_steps",
    "open_model",
    "probe",
    "probe_structure",
    "rank_components",
]
