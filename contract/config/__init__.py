"""What a person may choose: frozen sections, one file each; `run` has them all.

A node reads its own section only, so that a field of another one runs nothing again.
"""
