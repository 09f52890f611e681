"""What the two parity files share: random weights, mixed lengths, and transformers' numbers in packed form."""

from collections.abc import Mapping
from pathlib import Path

import torch
from headway.core.checkpoints.checkpoint import Checkpoint, load_checkpoint
from headway.core.checkpoints.weight_names import (
    ARCHITECTURES,
    BACKBONES,
    BASE_ARCHITECTURES,
    expand,
    model_of,
    prefixed,
)
from headway.core.models.heads import Network
from headway.core.models.packing import PackedBatch
from torch import Tensor, nn

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


def stir(model: nn.Module, seed: int = 0) -> nn.Module:
    """Moves every weight away from where initialisation put it, so that no bias is zero and no norm is one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model.eval()


def sequences(lengths: list[int], vocab_size: int, seed: int = 0) -> list[list[int]]:
    """Random token ids from 1 on: 0 is what the reference pads with."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(1, vocab_size, (length,), generator=generator).tolist() for length in lengths]


def segments(lengths: list[int], kinds: int) -> list[list[int]]:
    """Segment ids that rise along each sequence."""
    return [[i * kinds // length for i in range(length)] for length in lengths]


def padded(rows: list[list[int]]) -> Tensor:
    """(B, n), zeros on the right."""
    return nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)


def unpadded(x: Tensor, batch: PackedBatch) -> Tensor:
    """(B, n, ...) -> (T, ...)."""
    return torch.cat([row[:length] for row, length in zip(x, batch.lengths, strict=True)])


def ours(reference: nn.Module, folder: Path) -> Checkpoint:
    """Our model with the reference's weights, by way of its own save_pretrained."""
    reference.save_pretrained(folder)
    return load_checkpoint(folder)


class Watch:
    """Keeps the inputs and outputs of a reference's modules, by their names."""

    def __init__(self, model: nn.Module) -> None:
        self.inputs: dict[str, Tensor] = {}
        self.outputs: dict[str, Tensor] = {}
        for name, module in model.named_modules():
            module.register_forward_hook(self._keeper(name), with_kwargs=True)

    def _keeper(self, name: str):
        def keep(module, args, kwargs, output):
            given = args[0] if args else next(iter(kwargs.values()), None)
            self.inputs[name] = given
            self.outputs[name] = output[0] if isinstance(output, tuple) else output

        return keep


def published_gradients(network: Network, published: str, reference: nn.Module) -> dict[str, Tensor]:
    """The reference's gradients under the names, and in the shapes, of our parameters."""
    model = model_of(network.config)
    there: Mapping[str, nn.Parameter] = dict(reference.named_parameters())
    tables = {
        "backbone": expand(BACKBONES[model], network.config.num_layers),
        "head": expand(ARCHITECTURES[published].table),
    }
    base = published == BASE_ARCHITECTURES[model]
    gradients = {}
    for part, table in tables.items():
        for name, source in table.items():
            plain = source.names if source.copy not in there else (source.copy,)
            names = [n if base else prefixed(n, model) for n in plain]
            if names[0] not in there:  # tied: torch lists a shared parameter once
                assert source.tied
                continue
            grads = [there[n].grad for n in names]
            gradients[f"{part}.{name}"] = torch.cat([g.t() if source.transpose and g.dim() == 2 else g for g in grads])
    return gradients


def assert_gradients_equal(network: Network, published: str, reference: nn.Module) -> None:
    expected = published_gradients(network, published, reference)
    found = {name: p.grad for name, p in network.named_parameters()}
    assert found.keys() == expected.keys()
    assert sum(g.numel() for g in found.values()) == sum(p.grad.numel() for p in used(reference))
    for name in found:
        torch.testing.assert_close(found[name], expected[name], **TOLERANCE, msg=lambda m, name=name: f"{name}: {m}")


def used(reference: nn.Module) -> list[nn.Parameter]:
    return [p for p in reference.parameters() if p.grad is not None]


def weigh(outputs: Tensor | tuple[Tensor, ...]) -> Tensor:
    """A scalar of some outputs in which every number has its own weight."""
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    generator = torch.Generator().manual_seed(3)
    return sum((out * torch.randn(out.shape, generator=generator)).mean() for out in outputs)
