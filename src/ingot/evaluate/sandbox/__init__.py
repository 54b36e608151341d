"""Running programs that a model wrote, behind walls, and what share of them is right.

`pool` runs programs in workers, `guest` is what those workers are, `ladder` says how strong the walls are here;
`problems`, `completions`, `estimate` and `task` make an evaluation of them.
"""
