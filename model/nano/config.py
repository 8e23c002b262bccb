"""The fields of an official config.json that reach the graph, and nano's own dimensions."""

import dataclasses
import json
from pathlib import Path


@dataclasses.dataclass
class Config:
    """Names are those of config.json. Shapes elsewhere: V vocab_size, D hidden_size, S hc_mult (streams),
    H heads, d head_dim, E experts, I moe_intermediate_size."""
    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    head_dim: int
    qk_rope_head_dim: int
    q_lora_rank: int
    o_lora_rank: int
    o_groups: int
    sliding_window: int
    compress_ratios: list
    index_n_heads: int
    index_head_dim: int
    index_topk: int
    n_routed_experts: int
    num_experts_per_tok: int
    num_hash_layers: int
    moe_intermediate_size: int
    routed_scaling_factor: float
    swiglu_limit: float
    hc_mult: int
    hc_sinkhorn_iters: int
    rope_theta: float = 10000.0
    compress_rope_theta: float = 160000.0
    rope_scaling: dict = dataclasses.field(default_factory=lambda: {
        "type": "yarn", "factor": 16, "original_max_position_embeddings": 65536, "beta_fast": 32, "beta_slow": 1})
    max_position_embeddings: int = 1048576
    hc_eps: float = 1e-6
    rms_norm_eps: float = 1e-6
    num_nextn_predict_layers: int = 1
    bos_token_id: int = 0
    eos_token_id: int = 1

    @staticmethod
    def load(path: str | Path) -> "Config":
        """Reads config.json; fields that the graph does not use are ignored."""
        raw = json.loads(Path(path).read_text())
        return Config(**{f.name: raw[f.name] for f in dataclasses.fields(Config) if f.name in raw})

    def to_json(self) -> str:
        """The config.json text of this configuration, with the fixed fields of the official ones."""
        fixed = {
            "architectures": ["DeepseekV4ForCausalLM"], "model_type": "deepseek_v4", "torch_dtype": "bfloat16",
            "attention_bias": False, "num_key_value_heads": 1, "n_shared_experts": 1, "hidden_act": "silu",
            "scoring_func": "sqrtsoftplus", "topk_method": "noaux_tc", "norm_topk_prob": True,
            "tie_word_embeddings": False, "expert_dtype": "fp4",
            "quantization_config": {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic",
                                    "scale_fmt": "ue8m0", "weight_block_size": [128, 128]}}
        return json.dumps({**fixed, **dataclasses.asdict(self)}, indent=2) + "\n"


def nano(vocab_size: int) -> Config:
    """Nano. The index scan reads 2 layers x 2 heads x 32 = 128 values an entry."""
    return Config(
        vocab_size=vocab_size, hidden_size=128, num_hidden_layers=4, num_attention_heads=4, head_dim=144,
        qk_rope_head_dim=16, q_lora_rank=64, o_lora_rank=64, o_groups=2, sliding_window=512,
        compress_ratios=[0, 4, 128, 4, 0], index_n_heads=2, index_head_dim=32, index_topk=64,
        n_routed_experts=4, num_experts_per_tok=2, num_hash_layers=1, moe_intermediate_size=64,
        routed_scaling_factor=1.0, swiglu_limit=10.0, hc_mult=2, hc_sinkhorn_iters=4)
