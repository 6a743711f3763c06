"""Pure functions from numbers and strings to metric values."""

# Direction of every metric that a task may report; pass_at_K and maj_at_K are higher for better.
HIGHER_IS_BETTER: dict[str, bool] = {
    "acc_raw": True,
    "acc_per_token": True,
    "acc_per_char": True,
    "acc_per_byte": True,
    "acc_uncond": True,
    "greedy_acc": True,
    "bits_per_byte": False,
    "exact_match": True,
    "exact_match_flex": True,
    "exact_match_verified": True,
    "f1": True,
    "recall": True,
}
