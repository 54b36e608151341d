"""Contrastive search (Su et al. 2022, arXiv 2202.06417): likely, but unlike what was written before.

Of the `candidates` most likely tokens the one is taken with the largest (1 - alpha) p - alpha s, s being the largest
cosine between its hidden state (the last layer's, after the final norm) and that of any token before it. All candidates
are read in one pass; the winner's keys, values and logits stay. Ties go to the more likely one, then to the lowest.

Legend: V vocabulary, S tokens so far, K candidates, C width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ingot.infer.search.best import Answer, Ask, Found, Steps, best, controlled, go_on
from ingot.infer.search.branches import Branches
from ingot.infer.search.options import Search
from ingot.infer.sequence import Sequence


def contrastive(root: Sequence, options: Search, branches: Branches) -> Steps:
    """The one answer to a prompt that was begun."""
    answer: Answer = yield Ask([root], every=True)
    begin_SC = F.normalize(answer.hidden[0].float(), dim=-1)
    seen_SC = torch.cat([begin_SC, begin_SC.new_empty(root.room, begin_SC.shape[1])])
    text, logits_V, alpha = root, answer.logits_RV[0], options.penalty_alpha
    while not text.finish_reason:
        shares_V = controlled(logits_V[None], [text])[0].softmax(-1)
        _, tokens = best(shares_V.log(), options.candidates)  # the log: none that cannot come
        tried = [go_on(text, token) for token in tokens]
        branches.keep([text], tried)
        answer = yield Ask(tried)
        hidden_KC = F.normalize(torch.cat(answer.hidden).float(), dim=-1)
        likeness = (hidden_KC @ seen_SC[: text.num_cached].T).amax(-1).tolist()
        scores = [(1 - alpha) * float(shares_V[t]) - alpha * like for t, like in zip(tokens, likeness, strict=True)]
        chosen = scores.index(max(scores))
        seen_SC[text.num_cached] = hidden_KC[chosen]
        branches.keep(tried, [tried[chosen]])
        text, logits_V = tried[chosen], answer.logits_RV[chosen]
    branches.keep([text], [])
    return [Found(text, None)]
