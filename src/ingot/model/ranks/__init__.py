"""One model on several processes of one machine (tensor parallel): each has its slices of all weights and of the cache.

The first process is the one that loaded the model: it schedules, draws and speaks, and everything else sees a network
as any other (`lead`). It starts the others, which do what they are told until it ends (`follow`). `group` is how they
talk, `network` what is changed of a network that has slices of its weights.
"""
