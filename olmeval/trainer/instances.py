"""What a batch of tokens tells about its instances: where documents end, and what is degenerate.

Pure functions of the tokens [B, T + 1] that :meth:`~olmeval.trainer.mixture.Mixture.batch` gives;
row b's inputs are its first T tokens. Every document ends with EOS, so nothing needs to be stored.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

Tokens = npt.NDArray[Any]


def document_ids(tokens: Tokens, eos_id: int) -> npt.NDArray[np.int32]:
    """Number of the document, from 0 in each row, that each input belongs to, [B, T].

    An EOS belongs to the document that it ends. With intra-document masking, a position attends to
    those before it with the same number.
    """
    ended = np.cumsum(tokens[:, :-2] == eos_id, axis=1, dtype=np.int32)
    return np.pad(ended, ((0, 0), (1, 0)))


def cu_seqlens(tokens: Tokens, eos_id: int) -> npt.NDArray[np.int32]:
    """Where documents start in the flattened inputs [B * T], and the total B * T at the end.

    The form that variable-length attention kernels take; a row always starts a document. The
    longest document is ``np.diff(cu_seqlens(...)).max()``.
    """
    starts = np.empty((len(tokens), tokens.shape[1] - 1), dtype=bool)
    starts[:, 0] = True
    starts[:, 1:] = tokens[:, :-2] == eos_id
    return np.append(np.flatnonzero(starts), starts.size).astype(np.int32)


def repetitive(tokens: Tokens, max_period: int = 13, times: int = 32) -> npt.NDArray[np.bool_]:
    """Which rows hold an n-gram of 1 to ``max_period`` tokens ``times`` times in a row, [B].

    Such rows (separator lines, tables of zeros) destabilise training; the rule is that of the
    OLMo 2 report (arXiv:2501.00656). Mask their targets instead of dropping them, so
    that the batch keeps its shape and the sequence of draws its place.
    """
    found = np.zeros(len(tokens), dtype=bool)
    for period in range(1, max_period + 1):
        # n repetitions of p tokens: (n - 1) * p tokens in a row are equal to the one p before.
        run = (times - 1) * period
        if tokens.shape[1] < run + period:
            break
        equal = np.cumsum(tokens[:, period:] == tokens[:, :-period], axis=1, dtype=np.int32)
        equal = np.pad(equal, ((0, 0), (1, 0)))
        found |= (equal[:, run:] - equal[:, :-run] == run).any(axis=1)
    return found
