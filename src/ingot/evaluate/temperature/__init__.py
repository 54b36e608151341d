"""`tune-temperature`: which temperature suits a model and a task, by right answers or by entropy alone."""
