"""Pure functions from numbers and strings to metric values."""

# Direction of every metric that a task may report; a name outside this table is an error.
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
    "f1": True,
    "recall": True,
    "pass_at_k": True,
    "maj_at_k": True,
}
