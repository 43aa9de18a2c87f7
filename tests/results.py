"""Results as --json writes them, made by hand: every block that a report knows."""

from __future__ import annotations

from typing import Any

QUANTILES = ("0", "0.001", "0.01", "0.05", "0.1", "0.25", "0.5", "0.75", "0.9", "0.95", "0.99", "0.999", "1")

KL = (0.04, 0.03, 0.02, 0.01, 0.0)


def evaluation(scale: float = 1.0) -> dict[str, Any]:
    """One model."""
    bins = [
        {"lower": i / 5, "upper": (i + 1) / 5, "count": n, "confidence": i / 5 + 0.1, "accuracy": i / 5 + 0.05 * scale}
        for i, n in enumerate((0, 100, 200, 300, 400))
    ]
    bins[0] |= {"confidence": "nan", "accuracy": "nan"}
    calibrated = [{**b, "accuracy": b["confidence"]} for b in bins]
    return {
        "rows": 1010, "used": 1000, "ignored": 7, "invalid": 2, "nonfinite": 1, "infinite": 0,
        "first_invalid": 17, "first_nonfinite": None,
        "cross_entropy": 2.5 * scale, "cross_entropy_stderr": 0.0125, "bits": 3.6067 * scale,
        "perplexity": 12.1825 * scale, "perplexity_stderr": 0.15, "z_loss": 42.0,
        "accuracy_bound": 0.0821, "expected_accuracy": 0.25, "label_entropy": 5.0, "explained": 0.5,
        "accuracy": 0.4, "accuracy_stderr": 0.0155, "topk": {"1": 0.4, "5": 0.6, "10": 0.75, "100": 0.99},
        "mean_rank": 35.5, "mean_reciprocal_rank": 0.5, "entropy": 2.25, "brier": 0.6875, "ece": 0.015, "mce": 0.2,
        "reliability": bins,
        "quantiles": {q: scale * (0.001 + 9 * float(q) ** 3) for q in QUANTILES},
        "groups": [
            {"group": name, "rows": 250, "cross_entropy": scale * (2 + i), "cross_entropy_stderr": 0.1, "accuracy": 0.4}
            for i, name in enumerate(("wiki", "code", "news", "chat"))
        ],
        "worst": [{"row": 17 * i, "loss": 9.5 - i, "label": 3, "predicted": 30000 + i} for i in range(5)],
        "calibration": {
            "temperature": 1.25,
            "before": {"cross_entropy": 2.5, "ece": 0.015, "reliability": bins},
            "after": {"cross_entropy": 2.25, "ece": 0.005, "reliability": calibrated},
        },
        "temperatures": [
            {"temperature": t / 10, "cross_entropy": 2.25 + (t / 10 - 1.25) ** 2, "ece": 0.01, "mce": 0.1}
            for t in range(5, 21)
        ],
        "provenance": {
            "fastxent": "1.2.3", "row_format": 1, "level": "avx2", "classes": 32000, "options": {"topk": [1, 5]},
            "logits": {"name": "folder/x.npy", "shape": [1010, 32000], "dtype": "float16"},
        },
        "of_a_newer_version": {"unknown": [1, 2, {"deep": None}]},
    }  # fmt: skip


def comparison(scale: float = 1.0) -> dict[str, Any]:
    """Two models."""
    fields: dict[str, Any] = {"rows": 5000, "used": 5000, "ignored": 0}
    for name, value, error in (
        ("ppl", 6.407115, 0.03899), ("ppl_base", 6.382812, 0.0388), ("log_ppl_ratio", 0.0038, 0.00024),
        ("ppl_ratio", 1.003807, 0.000241), ("ppl_difference", 0.024303, 0.00154),
        ("kl_mean", 0.012345 * scale, 0.000123), ("delta_p_mean", -0.00012, 0.00004),
        ("delta_p_rms", 0.02, 0.0003), ("same_top", 0.98123, 0.00036),
    ):  # fmt: skip
        fields |= {name: value, f"{name}_stderr": error}
    return {
        **fields, "log_ppl_correlation": 0.9992,
        "kl_max": 5.25 * scale, "kl_median": 0.00125, "kl_min": 0.0,
        "kl_quantiles": {q: 5.25 * scale * float(q) ** 6 for q in QUANTILES if q not in ("0.25", "0.75")},
        "delta_p_quantiles": {q: 2 * (float(q) - 0.5) ** 3 for q in QUANTILES},
        "reverse_kl_mean": 0.0125, "js_mean": 0.003, "tv_mean": 0.03,
        "topk_agreement": {"1": {"ordered": 0.98, "set": 0.98}, "5": {"ordered": 0.7, "set": 0.9}},
        "kl_by_confidence": [
            {"lower": low, "upper": high, "count": 1000, "kl_mean": scale * kl, "kl_mean_stderr": 0.001}
            for low, high, kl in zip((0, 0.25, 0.5, 0.75, 0.95), (0.25, 0.5, 0.75, 0.95, 1), KL, strict=True)
        ],
        "groups": [{"group": i, "rows": 100, "kl_mean": scale / (i + 1), "kl_mean_stderr": 0.05} for i in range(50)],
        "provenance": {
            "fastxent": "1.2.3", "level": "avx2", "classes": 32000,
            "base": {"name": "base.npy", "dtype": "float16"}, "other": {"name": "q4.npy", "dtype": "float16"},
        },
    }  # fmt: skip
