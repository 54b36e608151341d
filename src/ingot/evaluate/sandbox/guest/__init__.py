"""What runs inside the sandbox's own processes: Python's standard library alone, started without the rest of ingot.

`keeper` builds the walls and forks, `checker` runs a program's tests, `candidate` runs the program itself. The modules
import one another relatively, because those processes know this folder only, under the name `guest`.
"""
