#!/usr/bin/env bash
# peft 0.21.2 with transformers 5.23.0 and torch 2.11.0 (a large download)
#
# Expected: merge_and_unload() folds a LoRA's update into the weights; the model
#   computes the same before and after. Whisper's embed_tokens and proj_out are
#   one tensor; LoraConfig(ensure_weight_tying=True) is there for that case.
# What happens, with target_modules=["embed_tokens"]:
#   - ensure_weight_tying=False: the adapter acts on the embedding alone, but is
#     merged into the tensor that the output layer uses too. Other logits.
#   - ensure_weight_tying=True: the adapter acts on both layers, and each of them
#     adds the update to the one tensor: the merged weight is W + 2 * update.
#   peft warns of "complications" in general; nothing tells that the update is
#   doubled by the very option that promises tying. v_proj merges exactly.
# Why it matters: fine-tuning Whisper for new words or a new language adapts
#   these layers, and speech tools take merged checkpoints. Of one adapter three
#   models exist: adapter kept apart, merged once, merged by peft.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install --quiet --no-cache-dir \
    torch==2.11.0 transformers==5.23.0 peft==0.21.2 numpy==2.4.6

HF_HUB_OFFLINE=1 "$tmp/venv/bin/python" - <<'PY'
import warnings

import peft
import torch
import transformers
from transformers import WhisperConfig, WhisperForConditionalGeneration

print("peft", peft.__version__, "transformers", transformers.__version__, "torch", torch.__version__)
warnings.simplefilter("ignore")
tiny = WhisperConfig(
    vocab_size=40, d_model=16, num_mel_bins=8, max_source_positions=8, max_target_positions=8,
    encoder_layers=1, encoder_attention_heads=2, encoder_ffn_dim=16,
    decoder_layers=1, decoder_attention_heads=2, decoder_ffn_dim=16,
    pad_token_id=0, bos_token_id=0, eos_token_id=0, decoder_start_token_id=1,
)


@torch.no_grad()
def merge(target, tying):
    """Largest change of a logit, and how many updates the weight has taken."""
    torch.manual_seed(0)
    whole = WhisperForConditionalGeneration(tiny).eval()
    assert whole.proj_out.weight is whole.model.decoder.embed_tokens.weight
    name = "model.decoder.embed_tokens" if target == "embed_tokens" else f"model.decoder.layers.0.self_attn.{target}"
    before_weight = whole.get_submodule(name).weight.clone()
    # Without its usual zeros, as after training.
    config = peft.LoraConfig(
        r=4, lora_alpha=2, target_modules=[target], init_lora_weights=False, ensure_weight_tying=tying)
    lora = peft.get_peft_model(whole, config).eval()
    update = lora.base_model.model.get_submodule(name).get_delta_weight("default").clone()
    given = {"input_features": torch.randn(1, 8, 16), "decoder_input_ids": torch.tensor([[1, 2, 3]])}
    before = lora(**given).logits
    merged = lora.merge_and_unload().eval()
    change = merged.get_submodule(name).weight - before_weight
    times = float((change * update).sum() / (update * update).sum())
    off = float((merged(**given).logits - before).abs().max())
    print(f"  {target}, tying {tying}: logits to {float(before.abs().max()):.2f}, changed by {off:.2g}; W + {times:.3f} * update")
    return off, round(times, 3)


exact, alone, tied = merge("v_proj", False), merge("embed_tokens", False), merge("embed_tokens", True)
assert exact[0] < 1e-4 and exact[1] == 1, exact
assert alone[0] > 0.1 and alone[1] == 1, alone
assert tied[0] > 0.1 and tied[1] == 2, tied
print("seen: with ensure_weight_tying the update is merged twice")
PY
