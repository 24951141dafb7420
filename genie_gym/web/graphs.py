"""Exports a world model as ONNX graphs, with which a browser runs one dream.

A world model has some of these graphs:

* `sample` predicts tokens from a partly masked frame.
* `finish` adds a finished frame to the past and predicts its reward and termination.
* `predict` combines `sample` and `finish`, for one-pass world models.
* `decode` converts a frame's tokens to pixels.

Keys and values are separate tensors for each layer: a stacked tensor would be split in each pass.
Past keys have the shape ``(N, H, E, W)``, in which they are multiplied with queries. Past values
have the shape ``(N, H, W, E)``.

Shapes: N tokens per frame, D width, H heads, W past frames, E head dimension, L temporal layers,
P convolutions, K codes.
"""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from world_models.extras import require
from world_models.inference.world import WorldModel
from world_models.model.dynamics import Dynamics, StepInputs
from world_models.model.transformer import Past
from world_models.tokenizers.motion.tokenizer import MotionTokenizer

__all__ = ["GRAPHS", "check_exportable", "export_graphs"]

GRAPHS = {"two_stream": ("sample", "finish", "decode"), "one_pass": ("predict", "decode")}
"""The graphs of a world model, by the objective of its dynamics."""

_OPSET = 17  # the first opset with LayerNormalization
_LEVELS = 127  # levels of an int8 weight on each side of 0
_SMALLEST = 4096  # elements; smaller matrices are not worth packing


def check_exportable(name: str, model: WorldModel) -> None:
    """Raise ValueError if a browser cannot run a world model."""
    objective = model.dynamics.config.objective
    if objective not in GRAPHS or not isinstance(model.tokenizer, MotionTokenizer):
        kind = model.tokenizer.config.__class__.__name__.removesuffix("Config")
        raise ValueError(
            f"export-web needs a motion tokenizer and the objective two_stream or one_pass; "
            f"{name} has {kind} and {objective}. Play it with: genie-gym play {name}"
        )


def export_graphs(model: WorldModel) -> dict[str, bytes]:
    """Return the graphs of a world model as ONNX files, by name."""
    dynamics = model.dynamics
    names = GRAPHS[dynamics.config.objective]
    with torch.no_grad(), warnings.catch_warnings():
        # The tracer warns that shapes might change; here they never do.
        warnings.simplefilter("ignore")
        return {
            name: _decoder(model) if name == "decode" else _pass(dynamics, name) for name in names
        }


class _Pass(nn.Module):
    """One pass of a dynamics model over one frame."""

    def __init__(self, dynamics: Dynamics, outputs: tuple[str, ...]):
        super().__init__()
        self.dynamics, self.outputs = dynamics, outputs
        self.derived = dynamics.derived()

    def forward(
        self,
        tokens: Tensor,
        action: Tensor,
        frame: Tensor,
        bias: Tensor,
        tails: Tensor,
        *past: Tensor,
    ) -> tuple[Tensor, ...]:
        dynamics, transformer = self.dynamics, self.dynamics.transformer
        num_layers = len(past) // 2
        keys = [x.mT[None] for x in past[:num_layers]]
        values = [x[None] for x in past[num_layers:]]
        inputs = StepInputs(
            action,
            dynamics.frame_features(frame[None]),
            self.derived.table,
            # Lists work as well as stacked tensors: each layer takes its own element.
            Past(self.derived.space_bias, bias[None, None], keys, values, tails[:, None]),  # type: ignore[arg-type]
        )
        if self.outputs == ("logits",):
            return (dynamics.step(tokens[None], inputs)[0][0],)
        logits, activations = dynamics.step(tokens[None], inputs)
        entry = transformer.entry(activations)
        assert entry is not None
        reward, termination = dynamics.outcome.predict(activations.inputs[-1])
        known = (
            entry.tails[:, :, 0].transpose(0, 1),
            reward,
            termination,
            *entry.keys[:, 0],
            *entry.values[:, 0],
        )
        return (logits[0], *known) if "logits" in self.outputs else known


class _Decode(nn.Module):
    """Decodes the next frame from its tokens and the previous frame."""

    def __init__(self, tokenizer: MotionTokenizer):
        super().__init__()
        self.tokenizer, self.derived = tokenizer, tokenizer.derived()

    def forward(self, tokens: Tensor, frame: Tensor) -> Tensor:
        return self.tokenizer.decode_frame(tokens[None].long(), self.derived, frame[None])[0][0]


def _pass(dynamics: Dynamics, name: str) -> bytes:
    space, cache = dynamics.space, dynamics.transformer.empty_cache(1)
    side = space.grid[0] * space.patch
    layers = range(len(cache.keys))
    num_heads, window = cache.keys.shape[3:5]
    past = [*cache.keys[:, 0].mT, *cache.values[:, 0]]
    inputs = (
        torch.zeros(space.num_tokens, dtype=torch.int32),
        torch.zeros(1, dtype=torch.int32),
        torch.zeros(side, side, 3, dtype=torch.uint8),
        torch.zeros(num_heads, window),
        cache.tails[:, 0, 0],
        *past,
    )
    rings = [f"{part}_{layer}" for part in ("keys", "values") for layer in layers]
    entry = ["new_tails", "reward", "termination", *(f"new_{ring}" for ring in rings)]
    outputs = {"sample": ["logits"], "finish": entry, "predict": ["logits", *entry]}[name]
    module = _Pass(dynamics, tuple(outputs))
    return _export(module, inputs, ["tokens", "action", "frame", "bias", "tails", *rings], outputs)


def _decoder(model: WorldModel) -> bytes:
    assert isinstance(model.tokenizer, MotionTokenizer)
    space = model.tokenizer.space
    side = space.grid[0] * space.patch
    inputs = (
        torch.zeros(space.num_tokens, dtype=torch.int32),
        torch.zeros(side, side, 3, dtype=torch.uint8),
    )
    return _export(_Decode(model.tokenizer), inputs, ["tokens", "frame"], ["shown"])


def _export(
    module: nn.Module, inputs: tuple[Tensor, ...], names: list[str], outputs: list[str]
) -> bytes:
    onnx = require("onnx", extra="web", what="exporting a world for the browser needs onnx")
    symbols: dict[str, Any] = {"mT": _transposed, "movedim": _moved, "repeat_interleave": _repeated}
    for operator, symbol in symbols.items():
        torch.onnx.register_custom_op_symbolic(f"aten::{operator}", symbol, _OPSET)
    file: Any = io.BytesIO()  # its type is not in torch's signature
    torch.onnx.export(
        module.eval(),
        inputs,
        file,
        input_names=names,
        output_names=outputs,
        opset_version=_OPSET,
        do_constant_folding=False,  # ONNX Runtime does it when it loads the file
        dynamo=False,
    )
    model = onnx.load_from_string(file.getvalue())
    _pack(onnx, model.graph)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _transposed(graph: Any, x: Any) -> Any:
    """Return the graph for ``x.mT``, which torch's exporter does not support."""
    axes = list(range(len(x.type().sizes())))
    return graph.op("Transpose", x, perm_i=[*axes[:-2], axes[-1], axes[-2]])


def _moved(graph: Any, x: Any, source: Any, destination: Any) -> Any:
    """Return the graph for ``x.movedim(...)``, which torch gets wrong for negative axes."""
    num = len(x.type().sizes())
    old, new = (int(axis.node().t("value")) % num for axis in (source, destination))
    axes = [axis for axis in range(num) if axis != old]
    axes.insert(new, old)
    return graph.op("Transpose", x, perm_i=axes)


def _repeated(graph: Any, x: Any, repeats: Any, dim: Any, size: Any = None) -> Any:
    """Return the graph for ``x.repeat_interleave(...)``.

    torch's exporter gets this operator wrong for negative axes.
    """
    shape = list(x.type().sizes())
    axis, times = int(dim.node().t("value")) % len(shape), int(repeats.node().t("value"))
    places = torch.arange(shape[axis]).repeat_interleave(times)
    return graph.op("Gather", x, graph.op("Constant", value_t=places), axis_i=axis)


def _pack(onnx: Any, graph: Any) -> None:
    """Store matrices as int8 where this is exact, as the world model's own files do."""
    new = []
    for tensor in list(graph.initializer):
        if tensor.data_type != onnx.TensorProto.FLOAT or len(tensor.dims) != 2:
            continue
        weight = onnx.numpy_helper.to_array(tensor)
        found = _int8(weight) if weight.size >= _SMALLEST else None
        if found is None:
            continue
        name = tensor.name
        graph.initializer.remove(tensor)
        for part, suffix in zip(found, ("int8", "scale"), strict=True):
            graph.initializer.append(onnx.numpy_helper.from_array(part, f"{name}.{suffix}"))
        make = onnx.helper.make_node
        # Folded into a float32 matrix when the file is loaded.
        new.append(make("Cast", [f"{name}.int8"], [f"{name}.float"], to=onnx.TensorProto.FLOAT))
        new.append(make("Mul", [f"{name}.float", f"{name}.scale"], [name]))
    nodes = [*new, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _int8(weight: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """Return int8 values and scales whose product is exactly the matrix; None if none exist.

    There is one scale per row or per column.
    """
    for axis in (0, 1):
        largest = np.abs(weight).max(axis, keepdims=True)
        for scale in _scales(largest):
            levels = np.round(weight / scale)
            if np.abs(levels).max() <= _LEVELS and np.array_equal(levels * scale, weight):
                return levels.astype(np.int8), scale
    return None


def _scales(largest: NDArray[Any]) -> list[NDArray[Any]]:
    """Return candidate scales: 127 times one of them may be exactly `largest` in float32."""
    scale = np.maximum(largest.astype(np.float32), np.float32(1e-12)) / np.float32(_LEVELS)
    exact = scale * np.float32(_LEVELS) == largest
    up, down = (np.nextafter(scale, np.float32(to)) for to in (np.inf, 0))
    fixed = np.where(exact, scale, np.where(up * np.float32(_LEVELS) == largest, up, down))
    return [scale, fixed.astype(np.float32)]
