"""A model larger than one place: which of its layers lie on cards, in memory and on disk, and how they run there.

`load(..., place="auto")` uses it; model files know nothing of it. `wish` reads what the user says, `available` and
`measure` ask the machine, `plan` decides and predicts before anything is allocated, `disk` reads layers as their turn
comes, `spread` puts a network together.
"""
