"""Products of few-bit weights on CPU, in C++: compiled on the user's machine when first used, called by ctypes."""
