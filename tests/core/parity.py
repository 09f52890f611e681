"""Shared by the parity tests: random weights, mixed lengths, and the numbers of transformers in packed form."""

from collections.abc import Mapping
from pathlib import Path

import torch
from headway.core.checkpoints.checkpoint import Checkpoint, load_checkpoint
from headway.core.checkpoints.families.family import expand
from headway.core.checkpoints.families.registry import ARCHITECTURES, family_of
from headway.core.checkpoints.weight_conversion import backbone_table
from headway.core.models.heads import Network
from headway.core.models.packing import PackedBatch
from torch import Tensor, nn

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


def stir(model: nn.Module, seed: int = 0) -> nn.Module:
    """Adds noise to every weight, so that no bias is zero and no norm is one; returns the model in eval mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model.eval()


def sequences(lengths: list[int], vocab_size: int, seed: int = 0) -> list[list[int]]:
    """Random token ids above 0, which the reference pads with."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(1, vocab_size, (length,), generator=generator).tolist() for length in lengths]


def segments(lengths: list[int], kinds: int) -> list[list[int]]:
    """Segment ids that increase along each sequence."""
    return [[i * kinds // length for i in range(length)] for length in lengths]


def padded(rows: list[list[int]]) -> Tensor:
    """Sequences -> (B, n), zeros on the right."""
    return nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)


def unpadded(x: Tensor, batch: PackedBatch) -> Tensor:
    """(B, n, ...) -> (T, ...)."""
    return torch.cat([row[:length] for row, length in zip(x, batch.lengths, strict=True)])


def ours(reference: nn.Module, folder: Path) -> Checkpoint:
    """Our model with the weights of the reference, which its save_pretrained writes."""
    reference.save_pretrained(folder)
    return load_checkpoint(folder)


class ModuleRecorder:
    """Records the inputs and outputs of all modules of a reference, by their names."""

    def __init__(self, model: nn.Module) -> None:
        self.inputs: dict[str, Tensor] = {}
        self.outputs: dict[str, Tensor] = {}
        for name, module in model.named_modules():
            module.register_forward_hook(self._hook(name), with_kwargs=True)

    def _hook(self, name: str):
        def record(module, args, kwargs, output):
            given = args[0] if args else next(iter(kwargs.values()), None)
            self.inputs[name] = given
            self.outputs[name] = output[0] if isinstance(output, tuple) else output

        return record


def published_gradients(network: Network, published: str, reference: nn.Module) -> dict[str, Tensor]:
    """The gradients of the reference, by the names and in the shapes of our parameters."""
    family = family_of(network.config)
    # Marian's bias of the output is a buffer.
    there: Mapping[str, Tensor] = dict(
        [*reference.named_buffers(), *reference.named_parameters(remove_duplicate=False)]
    )
    tables = {
        "backbone": backbone_table(network.backbone, family),
        "head": expand(ARCHITECTURES[published].head.table),
    }
    base = published == family.base_class
    gradients = {}
    own = {name for name, _ in network.named_parameters()}  # of shared layers, those of the first
    for part, table in tables.items():
        for name, source in table.items():
            if f"{part}.{name}" not in own and name.startswith("blocks."):
                continue
            plain = source.names if source.copy not in there else (source.copy,)
            names = [n if base else family.prefixed(n) for n in plain]
            if source.tied and network.config.tie_embeddings:  # the gradient is that of the token embedding
                continue
            grads = [there[n].grad for n in names]
            gradients[f"{part}.{name}"] = torch.cat([g.t() if source.transpose and g.dim() == 2 else g for g in grads])
    return gradients


def assert_gradients_equal(network: Network, published: str, reference: nn.Module) -> None:
    expected = published_gradients(network, published, reference)
    found = {name: p.grad for name, p in network.named_parameters()}
    assert found.keys() == expected.keys()
    assert sum(g.numel() for g in found.values()) == sum(p.grad.numel() for p in used(reference))
    for name, gradient in expected.items():
        difference = (found[name] - gradient).abs().max()
        spread = gradient.std() if gradient.numel() > 1 else gradient.abs().max()
        assert difference < 1e-4 * spread, f"{name}: {difference:.1e}, with a spread of {spread:.1e}"


def used(reference: nn.Module) -> list[nn.Parameter]:
    return [p for p in reference.parameters() if p.grad is not None]


def weighted_mean(outputs: Tensor | tuple[Tensor, ...]) -> Tensor:
    """A weighted mean of the outputs, with a different weight for every number."""
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    generator = torch.Generator().manual_seed(3)
    return sum((out * torch.randn(out.shape, generator=generator)).mean() for out in outputs)
