"""Ranking heads that transformers has no class for, as torch modules with the inputs and outputs of its classifiers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from transformers.modeling_outputs import SequenceClassifierOutput

from rerank_plugins.errors import ModelLoadError
from rerank_plugins.hub.modules import Module

_POOLING = ("cls", "mean", "max", "lasttoken")


class LastTokenScore(nn.Module):
    """A decoder, and linear rows that only the state of the last token meets. Rows of ids are padded at the end."""

    def __init__(self, body: Any, rows: torch.Tensor, config: Any, bias: torch.Tensor | None = None) -> None:
        """``rows``: [scores, width] in any precision; they are multiplied in fp32, which costs nothing."""
        super().__init__()
        self.body = body
        self.config = config
        self.rows = nn.Parameter(rows.detach().float().clone(), requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias.detach().float().clone(), requires_grad=False)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SequenceClassifierOutput:
        """Scores [batch, scores] of ids [batch, length]."""
        body = self.body(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)
        states: torch.Tensor = body.last_hidden_state
        last = attention_mask.sum(dim=1) - 1
        state = states[torch.arange(states.shape[0], device=states.device), last]
        return SequenceClassifierOutput(logits=self.score(nn.functional.linear(state.float(), self.rows, self.bias)))

    def score(self, logits: torch.Tensor) -> torch.Tensor:
        """The scores by the rows' products."""
        return logits


class CappedAnswerScore(LastTokenScore):
    """Two rows, whose logits are bent to a range before they are subtracted, as in Gemma 2."""

    def score(self, logits: torch.Tensor) -> torch.Tensor:
        """The first logit, less the second if there is one."""
        cap = self.config.get_text_config().final_logit_softcapping
        bent: torch.Tensor = torch.tanh(logits / cap) * cap
        return bent[:, :1] - bent[:, 1:] if bent.shape[1] > 1 else bent


def score_by_answer(language_model: Any, yes: int, no: int | None, folder: Path) -> LastTokenScore:
    """A language model as a reranker: its logit of token ``yes`` behind the text, less that of ``no``.

    Both are one row: the difference of products is the product with the difference. `ModelLoadError` if the model
    computes its logits in another way than by such a row.
    """
    output, body = language_model.get_output_embeddings(), language_model.base_model
    tokens = [yes] if no is None else [yes, no]
    if max(tokens) >= output.weight.shape[0]:
        raise ModelLoadError(
            f"The answer's tokens {tokens} are not in the vocabulary of {folder} ({output.weight.shape[0]} tokens). "
            f"Download the model again."
        )
    rows = output.weight[tokens].detach().float()
    bias = None if getattr(output, "bias", None) is None else output.bias[tokens].detach().float()
    if getattr(language_model.config.get_text_config(), "final_logit_softcapping", None):
        scorer: LastTokenScore = CappedAnswerScore(body, rows, language_model.config, bias)
    else:
        signs = torch.tensor([[1.0, -1.0][: len(tokens)]], device=rows.device)
        scorer = LastTokenScore(body, signs @ rows, language_model.config, None if bias is None else signs @ bias)
    _check_answer(scorer, language_model, tokens, folder)
    return scorer


@torch.inference_mode()
def _check_answer(scorer: LastTokenScore, language_model: Any, tokens: list[int], folder: Path) -> None:
    """Compare the scores of two rows with the model's own logits."""
    ids = torch.arange(3, 19).reshape(2, 8) % language_model.get_output_embeddings().weight.shape[0]
    mask = torch.ones_like(ids)
    mask[1, -2:] = 0
    whole = language_model(input_ids=ids, attention_mask=mask).logits.float()
    own = whole[torch.arange(2), mask.sum(dim=1) - 1][:, tokens]
    expected = own[:, 0] - own[:, 1] if len(tokens) > 1 else own[:, 0]
    found = scorer.eval()(ids, mask).logits[:, 0]
    # In half precision the model's logits are rounded, and those of the row are not.
    exact = language_model.dtype == torch.float32
    if not torch.allclose(found, expected, rtol=0, atol=float((1e-3 if exact else 0.05) * (1 + own.abs().max()))):
        raise ModelLoadError(
            f"{folder} computes the logits of its answer in a way that is not known here: {found.tolist()} instead of "
            f"{expected.tolist()} for two rows. Use sentence-transformers for this model, or another model."
        )


class ModuleChain(nn.Module):
    """An encoder and the modules that sentence-transformers puts behind it: pooling, then layers."""

    def __init__(self, body: Any, modules: tuple[Module, ...], folder: Path) -> None:
        """Read the weights of ``modules`` from their sub-folders; `ModelLoadError` if one is unknown or incomplete."""
        super().__init__()
        self.body = body
        self.config = body.config
        self._takes_token_types = getattr(body.config, "type_vocab_size", 0) > 1
        self.pooling = _read_pooling(modules[0], folder)
        self.layers = nn.Sequential(*(_read_layer(module, folder) for module in modules[1:]))

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor | None = None
    ) -> SequenceClassifierOutput:
        """Scores [batch, labels] of ids [batch, length], padded at the end."""
        feed = {"input_ids": input_ids, "attention_mask": attention_mask}
        if self._takes_token_types and token_type_ids is not None:
            feed["token_type_ids"] = token_type_ids
        states = self.body(**feed).last_hidden_state
        return SequenceClassifierOutput(logits=self.layers(self._pool(states, attention_mask)))

    def _pool(self, states: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        if self.pooling == "cls":
            return states[:, 0]
        if self.pooling == "lasttoken":
            return states[torch.arange(states.shape[0], device=states.device), attention_mask.sum(dim=1) - 1]
        mask = attention_mask.unsqueeze(-1)
        if self.pooling == "max":
            return states.masked_fill(mask == 0, torch.finfo(states.dtype).min).max(dim=1).values
        total = (states.float() * mask).sum(dim=1)
        return (total / mask.sum(dim=1)).to(states.dtype)


class _Dense(nn.Module):
    """A linear layer, its activation and, if ``residual`` is set, its input added to them."""

    def __init__(self, config: dict[str, Any], activation: nn.Module) -> None:
        super().__init__()
        wide, narrow = int(config["in_features"]), int(config["out_features"])
        self.linear = nn.Linear(wide, narrow, bias=bool(config.get("bias", True)))
        self.activation = activation
        self.adds_input = bool(config.get("use_residual"))
        if self.adds_input and wide != narrow:
            self.residual = nn.Linear(wide, narrow, bias=False)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.activation(self.linear(states))
        if not self.adds_input:
            return out
        return out + (self.residual(states) if hasattr(self, "residual") else states)


class _LayerNorm(nn.Module):
    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dimension)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        normalized: torch.Tensor = self.norm(states)
        return normalized


def _read_pooling(module: Module, folder: Path) -> str:
    config = module.config
    mode = config.get("pooling_mode")
    if mode is None:  # until sentence-transformers 5.4
        names = {"cls": "cls_token", "mean": "mean_tokens", "max": "max_tokens", "lasttoken": "lasttoken"}
        chosen = [mode for mode, name in names.items() if config.get(f"pooling_mode_{name}")]
        others = [name for name, value in config.items() if name.startswith("pooling_mode_") and value is True]
        mode = chosen[0] if len(chosen) == len(others) == 1 else others or "mean"
    mode = mode[0] if isinstance(mode, list) and len(mode) == 1 else mode
    if module.kind != "Pooling" or mode not in _POOLING:
        what = f"{module.kind} of {mode!r}" if module.kind == "Pooling" else module.kind
        raise ModelLoadError(_explain_unknown(folder, what, f"Pooling by {', '.join(_POOLING)}"))
    return str(mode)


def _read_layer(module: Module, folder: Path) -> nn.Module:
    if module.kind not in ("Dense", "LayerNorm"):
        raise ModelLoadError(_explain_unknown(folder, module.kind, "Dense and LayerNorm"))
    if module.config.get("module_input_name", "sentence_embedding") != "sentence_embedding":
        raise ModelLoadError(_explain_unknown(folder, "Dense of each token", "Dense behind the pooling"))
    activation = _read_activation(module, folder)
    place = folder / module.path
    try:
        if module.kind == "LayerNorm":
            layer: nn.Module = _LayerNorm(int(module.config["dimension"]))
        else:
            layer = _Dense(module.config, activation)
        layer.load_state_dict(load_file(place / "model.safetensors"), strict=True)
    except Exception as exc:
        # Missing and damaged files and settings surface as OSError, SafetensorError, KeyError and RuntimeError.
        raise ModelLoadError(
            f"The module {module.kind} in {place} cannot be loaded ({type(exc).__name__}: {exc}). "
            f"Download the model again."
        ) from exc
    return layer


def _read_activation(module: Module, folder: Path) -> nn.Module:
    path = str(module.config.get("activation_function", "torch.nn.modules.activation.Tanh"))
    kind = getattr(nn, path.rsplit(".", maxsplit=1)[-1], None) if path.startswith("torch.nn.") else None
    if not isinstance(kind, type) or not issubclass(kind, nn.Module):
        raise ModelLoadError(_explain_unknown(folder, f"the activation {path}", "one of torch.nn"))
    activation: nn.Module = kind()
    return activation


def _explain_unknown(folder: Path, got: str, expected: str) -> str:
    return (
        f"{folder / 'modules.json'} has {got}, which is not known here; expected {expected}. "
        f"Use sentence-transformers for this model, or another model."
    )
