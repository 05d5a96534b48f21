"""What is made of a snapshot: a report in one of several formats, each one module.

In:  a `Snapshot`.
Out: text to print or to save.
"""
